"""What a registration network learns: fields that bring features together and change little from place to place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from featlift.registration.network.meeting import Meeting, batch_of, meet
from featlift.registration.network.plan import NetworkPlan
from featlift.registration.network.subjects import Subject
from featlift.registration.network.unet import PairBatch, RegistrationNet
from featlift.registration.network.who import Pairing, moving_of
from featlift.registration.refinement import diffusion, distance
from featlift.registration.sampling import sampled
from featlift.training.task import Task, finite_loss
from featlift.volumes.grid import Shape

_WINDOW = 9  # voxels: the side of the boxes in which intensities are correlated, VoxelMorph's


class Registering(Task[PairBatch]):
    """Pairs of scans; validation is by the loss.

    Args:
        network: what is trained.
        subjects: the scans, by id.
        pairing: who meets whom.
        plan: how.
        spacing: of the grid in millimetres.
        grid: (D, H, W) that all pairs come to.
    """

    measure = "val_loss"
    less_is_better = True
    network: RegistrationNet

    def __init__(
        self,
        network: RegistrationNet,
        subjects: Mapping[str, Subject],
        pairing: Pairing,
        plan: NetworkPlan,
        spacing: float,
        grid: Shape,
    ) -> None:
        self.network, self.subjects, self.pairing, self.plan = network, subjects, pairing, plan
        self.spacing, self.grid = spacing, grid
        self.pairs = {f"{fixed} {moving}": (fixed, moving) for fixed, moving in pairing.val}
        self.to_validate = list(self.pairs)
        self.unlike = unlike_of(plan, network.flat)

    def meeting(self, fixed: str, moving: str) -> Meeting:
        """Two of the scans on the grid."""
        return meet(self.subjects[fixed], self.subjects[moving], self.plan, self.spacing, self.grid)

    def dataset(self, number: int) -> Dataset[Any]:
        """See `Task`."""
        return _Pairs(self, number)

    def collated(self, items: Sequence[Meeting]) -> PairBatch:
        """See `Task`."""
        return batch_of(list(items))

    def on(self, batch: PairBatch, device: torch.device) -> PairBatch:
        """See `Task`."""
        return batch.to(device)

    def loss(self, outputs: Tensor, batch: PairBatch) -> Tensor:
        """How unlike the scans are on the fixed one's own voxels, and how much the field changes there."""
        assert self.plan.weight is not None
        compared = batch.seen if self.plan.loss == "mse" else batch.grey
        losses = []
        for field, pair, edges, inner in zip(outputs, compared, batch.edges, batch.inner, strict=True):
            fixed, moving = pair.chunk(2)
            own = (slice(None), *inner)
            warped = sampled(moving, field, continued=True)  # else all would be led out, to the 0 of centred features
            unlike = self.unlike(fixed[own], warped[own])
            losses.append(unlike + self.plan.weight * diffusion(field[own], edges))
        return torch.stack(losses).mean()

    @torch.inference_mode()
    def validated(self, names: Sequence[str], device: torch.device, bf16: bool) -> dict[str, Any]:
        """The loss of each pair."""
        found = {}
        for name in names:
            batch = batch_of([self.meeting(*self.pairs[name])]).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                fields = self.network(batch)
            found[name] = float(self.loss(fields, batch))
        return found

    def score(self, found: Mapping[str, Any]) -> float:
        """The mean over pairs.

        Raises:
            OptionError: it is no number: training has diverged, and the last round before is kept as it was.
        """
        return finite_loss(float(np.mean([found[name] for name in self.to_validate])))


class _Pairs(Dataset[Any]):
    def __init__(self, task: Registering, number: int) -> None:
        self.task, self.number = task, number

    def __len__(self) -> int:
        return len(self.task.pairing.train)

    def __getitem__(self, index: int) -> Meeting:
        task = self.task
        draw = np.random.default_rng([task.plan.seed, self.number, index])
        return task.meeting(*moving_of(task.pairing.train, index, draw))


def unlike_of(plan: NetworkPlan, flat: int | None) -> Callable[[Tensor, Tensor], Tensor]:
    """How unlike a fixed scan and a warped one are, of ``(C, D, H, W)`` each.

    Args:
        plan: says which loss.
        flat: the axis of one voxel, of slices.
    """
    if plan.loss == "mse":
        return distance
    from monai.losses.image_dissimilarity import LocalNormalizedCrossCorrelationLoss

    correlation = LocalNormalizedCrossCorrelationLoss(3 if flat is None else 2, _WINDOW)

    def unlike(fixed: Tensor, warped: Tensor) -> Tensor:
        ends = (fixed, warped) if flat is None else (fixed.squeeze(1 + flat), warped.squeeze(1 + flat))
        found: Tensor = correlation(ends[1][None], ends[0][None])
        return found

    return unlike

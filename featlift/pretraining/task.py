"""What an encoder learns without labels: to give back what was blotted out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from featlift.pretraining.crops import Crop, Crops
from featlift.pretraining.losses import edges, reconstruction
from featlift.pretraining.masking import Stage, drawn_mask
from featlift.pretraining.meaning import Meaning
from featlift.pretraining.network import Autoencoder, Masked
from featlift.pretraining.plan import PretrainPlan
from featlift.training.order import Order
from featlift.training.precision import products_in_bf16
from featlift.training.task import Task, finite_loss

#: Parts of the loss, in the order of their weights.
PARTS = ("rec", "sem", "edge")
_OF_VALIDATION = 2**31  # a round that no training has


class Pretraining(Task[Masked]):
    """Cubes of scans, masked by the stage of the round; validation is always masked as in the last stage.

    Its loss is thus comparable from stage to stage.

    Args:
        network: what is trained.
        crops: of the scans.
        train: ids of those that are trained on.
        val: ids of those that choose the round.
        plan: how.
        meaning: φ; None where the semantic loss has no weight.
    """

    measure = "val_loss"
    less_is_better = True
    network: Autoencoder

    def __init__(
        self,
        network: Autoencoder,
        crops: Crops,
        train: Sequence[str],
        val: Sequence[str],
        plan: PretrainPlan,
        meaning: Meaning | None,
    ) -> None:
        self.network, self.crops, self.train, self.plan, self.meaning = network, crops, train, plan, meaning
        self.to_validate = list(val)

    def dataset(self, number: int) -> Dataset[Any]:
        """See `Task`: all cubes of the round, each drawn by itself."""
        return _Cubes(self, number)

    def collated(self, items: Sequence[tuple[Tensor, Tensor]]) -> Masked:
        """See `Task`."""
        targets, masks = zip(*items, strict=True)
        return Masked(torch.stack(targets), torch.stack(masks))

    def on(self, batch: Masked, device: torch.device) -> Masked:
        """See `Task`."""
        return batch.to(device)

    def loss(self, outputs: Tensor, batch: Masked) -> Tensor:
        """The weighted sum of the parts."""
        parts = self.parts(outputs, batch)
        return torch.stack([weight * parts[name] for name, weight in self._weights.items()]).sum()

    def parts(self, outputs: Tensor, batch: Masked) -> dict[str, Tensor]:
        """The parts of the loss that have a weight, by name."""
        output, target, mask = outputs.float(), batch.target, batch.mask
        found = {}
        for name in self._weights:
            if name == "rec":
                found[name] = reconstruction(output, target, mask)
            elif name == "edge":
                found[name] = edges(output, target, self.plan.edges)
            else:
                assert self.meaning is not None
                found[name] = self.meaning.loss(output, target, mask)
        return found

    @torch.no_grad()
    def validated(self, names: Sequence[str], device: torch.device, bf16: bool) -> dict[str, Any]:
        """The parts of each scan's loss."""
        found = {}
        for name in names:
            batch = held(self.crops, name, self.plan.masking[-1], self.plan.seed)[1].to(device)
            parts = self.parts(restored(self.network, batch, device, bf16), batch)
            found[name] = {part: float(value) for part, value in parts.items()}
        return found

    def score(self, found: Mapping[str, Any]) -> float:
        """The mean over scans.

        Raises:
            OptionError: it is no number: training has diverged, and the last round before is kept as it was.
        """
        parts = self.noted(found)
        return finite_loss(sum(weight * parts[f"val_{name}"] for name, weight in self._weights.items()))

    def noted(self, found: Mapping[str, Any]) -> dict[str, float]:
        """See `Task`: the mean of each part."""
        return {
            f"val_{name}": float(np.mean([found[case_id][name] for case_id in self.to_validate]))
            for name in self._weights
        }

    @property
    def _weights(self) -> dict[str, float]:
        return {name: weight for name, weight in zip(PARTS, self.plan.losses, strict=True) if weight}


def held(crops: Crops, case_id: str, stage: Stage, seed: int) -> tuple[Crop, Masked]:
    """The cube by which a scan is looked at, and its mask: the same whenever it is, and whatever the others are.

    Args:
        crops: of scans.
        case_id: of one.
        stage: how to mask.
        seed: of the place of the cube and of the mask.
    """
    draw = np.random.default_rng([seed, _OF_VALIDATION, crc32(case_id.encode())])
    crop = crops.drawn(case_id, draw)
    target, mask = _masked(crop, stage, draw)
    return crop, Masked(target[None], mask[None])


@torch.no_grad()
def restored(network: Autoencoder, batch: Masked, device: torch.device, bf16: bool) -> Tensor:
    """What a network makes of a batch, in evaluation mode, ``(B, 1, D, H, W)`` float32.

    Args:
        network: on its device.
        batch: of cubes and masks.
        device: where the network is.
        bf16: multiply in bfloat16.
    """
    network.eval()
    with products_in_bf16(device, bf16):
        outputs: Tensor = network(batch.to(device))
    return outputs.float()


class _Cubes(Dataset[Any]):
    """Every item is a draw of its own; the scans go round, each once before any comes again."""

    def __init__(self, task: Pretraining, number: int) -> None:
        self.task, self.number = task, number
        self.stage = task.plan.stage_of(number)[1]
        order = Order(len(task.train), 1, task.plan.seed, task.plan.steps * task.plan.batch)
        self.cases = [task.train[index] for (index,) in order.of_round(number)]

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        draw = np.random.default_rng([self.task.plan.seed, self.number, index])
        return _masked(self.task.crops.drawn(self.cases[index], draw), self.stage, draw)


def _masked(crop: Crop, stage: Stage, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A cube and its mask, ``(1, N, N, N)`` both."""
    side = len(crop.voxels)
    mask = drawn_mask(stage, (side, side, side), draw)
    return torch.from_numpy(crop.voxels)[None], torch.from_numpy(mask)[None]

"""What the trainer is asked to train: a head that finds affinities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featlift.segmentation.data.cases import BEYOND
from featlift.segmentation.data.survey import TrainingData
from featlift.segmentation.instances.affinities import weights_of_share
from featlift.segmentation.networks.head import Batch
from featlift.segmentation.objects.crops import Crops
from featlift.segmentation.objects.finding import affinities_of, choose_threshold
from featlift.segmentation.objects.labels import scan_in
from featlift.segmentation.plan import Plan
from featlift.segmentation.task import HeadTask
from featlift.training.precision import products_in_bf16
from featlift.training.task import finite_loss


class AffinityTask(HeadTask):
    """A head on crops of cached features, validated by its loss.

    Args:
        material: what it is trained on.
        objects: of each case that trains or validates, see `on_frame`.
        plan: how.
    """

    measure = "error"
    less_is_better = True
    patches: Crops

    def __init__(self, material: TrainingData, objects: Mapping[str, NDArray[Any]], plan: Plan) -> None:
        assert plan.affinities is not None
        self.objects, self.settings = objects, plan.affinities
        super().__init__(material, plan)

    def patches_of(self, plan: Plan) -> Crops:
        """See `HeadTask`."""
        return Crops(self.material, self.objects, self.settings, plan.patch, plan.seed, plan.noise)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """See `Task`."""
        assert batch.labels is not None
        return balanced_error(outputs, batch.labels)

    @torch.inference_mode()
    def validated(self, names: Sequence[str], device: torch.device, bf16: bool) -> dict[str, Any]:
        """Mean loss of each case over crops side by side."""
        reader = self.material.reader
        found = {}
        for case_id in names:
            frame, errors = reader.frame(reader.store[case_id]), []
            for box in self.patches.tiles(case_id):
                target = torch.from_numpy(self.patches.labels(case_id, frame.under(box)))[None]
                batch = self.on(replace(reader.read(case_id, box), labels=target), device)
                with products_in_bf16(device, bf16):
                    errors.append(float(self.loss(self.network(batch), batch)))
            found[case_id] = float(np.mean(errors))
        return found

    def score(self, found: Mapping[str, Any]) -> float:
        """Mean loss over validation cases."""
        return finite_loss(float(np.mean([found[case_id] for case_id in self.to_validate])))

    def settled(self, device: torch.device, bf16: bool) -> dict[str, float]:
        """The threshold with which the objects of the validation cases are found best."""
        reader = self.material.reader
        self.network.eval()

        def case(case_id: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
            heads = [(self.network, reader)]
            predicted = affinities_of(heads, case_id, self.patch, self.settings, device, bf16)
            return predicted, self.objects[case_id][scan_in(reader.frame(reader.store[case_id]))]

        return choose_threshold(map(case, self.to_validate), self.settings)


def balanced_error(logits: Tensor, target: Tensor) -> Tensor:
    """Weighted squared error of sigmoids; zeros and ones of each channel of each crop count alike, see `class_weights`.

    As liuxy1103/CAD (CVPR 2024) has it, but for the mean over channels in the place of a sum.

    Args:
        logits: ``(B, K, D, H, W)``.
        target: of the same shape; 0, 1, or -1, which does not count.
    """
    over = (2, 3, 4)
    is_one, counts = target == 1, target != BEYOND
    number = counts.sum(over).clamp_min(1)
    shares = is_one.sum(over) / number
    weights = torch.tensor([[weights_of_share(share) for share in row] for row in shares.tolist()])
    one, zero = weights.to(logits.device)[..., None, None, None].unbind(2)
    error = (logits.float().sigmoid() - is_one.float()) ** 2 * torch.where(is_one, one, zero) * counts
    return (error.sum(over) / number).mean()

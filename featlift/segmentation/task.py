"""What the trainer is asked to train: a head that finds labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featlift.segmentation.data.patches import Patches, collated
from featlift.segmentation.data.survey import TrainingData
from featlift.segmentation.inference.windows import logits_of
from featlift.segmentation.loss import dice_and_cross_entropy, mean_dice
from featlift.segmentation.networks.head import Batch, Head
from featlift.segmentation.plan import Plan
from featlift.training.task import Task


class HeadTask(Task[Batch]):
    """A head on patches, or whole scans, of cached features.

    Args:
        material: what it is trained on.
        plan: how.
    """

    measure = "dice"
    network: Head

    def __init__(self, material: TrainingData, plan: Plan) -> None:
        self.material = material
        self.network = material.fresh_head(plan)
        self.to_validate = material.split.val
        self.patch = None if self.network.whole else plan.patch
        self.patches = self.patches_of(plan)

    def patches_of(self, plan: Plan) -> Patches:
        """What it is trained on."""
        return Patches(self.material, self.patch, plan.seed, plan.noise)

    def settled(self, device: torch.device, bf16: bool) -> dict[str, float]:
        """What else is chosen on the validation cases after the best epoch; nothing of labels."""
        return {}

    def dataset(self, number: int) -> Patches:
        """See `Task`."""
        self.patches.epoch = number
        return self.patches

    def collated(self, items: Sequence[Batch]) -> Batch:
        """See `Task`."""
        return collated(items)

    def on(self, batch: Batch, device: torch.device) -> Batch:
        """See `Task`."""
        return batch.to(device)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """See `Task`; Dice is of all patches together."""
        assert batch.labels is not None
        return dice_and_cross_entropy(outputs, batch.labels)

    def validated(self, names: Sequence[str], device: torch.device, bf16: bool) -> dict[str, Any]:
        """Mean Dice of each case over its labels, on the predicted voxels."""
        found = {}
        for case_id in names:
            logits = logits_of(self.network, self.material.reader, case_id, self.patch, device, bf16)
            found[case_id] = mean_dice(logits.argmax(dim=0).numpy(), self.material.reader.classes(case_id))
        return found

    def score(self, found: Mapping[str, Any]) -> float:
        """Mean Dice over validation cases."""
        return float(np.nanmean([found[case_id] for case_id in self.to_validate]))

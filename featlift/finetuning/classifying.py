"""Fine-tuning for labels of volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from featlift.finetuning.cases import Labels
from featlift.finetuning.changes import shifted_and_turned
from featlift.finetuning.classifier import Classifier, Labelled, classification_loss
from featlift.finetuning.plan import FinetunePlan
from featlift.finetuning.rates import groups_of
from featlift.metrics.classification_bootstrap import mean_areas
from featlift.training.scans import Scans
from featlift.training.splits import Split
from featlift.training.task import Task
from featlift.volumes.grid import pad, padding_to


class Classifying(Task[Labelled]):
    """Volumes and their labels; validation is by the area under the ROC curve.

    Args:
        network: what is trained.
        scans: of all cases.
        labels: of those that train and validate.
        split: who does which.
        plan: how.
    """

    measure = "auc"
    later_of_equals = True  # as the released code; an area can be 1 long before a network is sure
    network: Classifier

    def __init__(self, network: Classifier, scans: Scans, labels: Labels, split: Split, plan: FinetunePlan) -> None:
        self.network, self.scans, self.labels, self.plan = network, scans, labels, plan
        self.train, self.to_validate = split.train, split.val

    def dataset(self, number: int) -> Dataset[Any]:
        """See `Task`."""
        return _Volumes(self, number)

    def collated(self, items: Sequence[tuple[Tensor, Any]]) -> Labelled:
        """See `Task`."""
        volumes, targets = zip(*items, strict=True)
        return Labelled(volumes, torch.as_tensor(np.stack(targets)))

    def on(self, batch: Labelled, device: torch.device) -> Labelled:
        """See `Task`."""
        return Labelled([volume.to(device) for volume in batch.volumes], batch.targets.to(device))

    def loss(self, outputs: Tensor, batch: Labelled) -> Tensor:
        """See `Task`."""
        return classification_loss(outputs, batch.targets)

    def validated(self, names: Sequence[str], device: torch.device, bf16: bool) -> dict[str, Any]:
        """Probabilities of classes, or of findings, for each case."""
        findings = self.labels.findings
        return {
            case_id: probabilities_of(self.network, self.scans[case_id].scan.scan, findings, device, bf16)
            for case_id in names
        }

    def score(self, found: Mapping[str, Any]) -> float:
        """Mean AUC: of two classes the second's, of more, and of findings, the mean over all."""
        probabilities = np.array([found[case_id] for case_id in self.to_validate], np.float64)
        values = np.array([self.labels.values[case_id] for case_id in self.to_validate])
        if not self.labels.findings:
            return float(mean_areas(values, probabilities[None])[0])
        areas = []
        for column, chances in zip(values.T, probabilities.T, strict=True):
            known = ~np.isnan(column)
            both = np.stack([1 - chances[known], chances[known]], axis=-1)
            areas.append(mean_areas(column[known].astype(np.int64), both[None])[0])
        return float(np.mean(areas))

    def groups(self) -> list[dict[str, Any]]:
        """See `Task`."""
        return groups_of(self.network, self.plan)


class _Volumes(Dataset[Any]):
    def __init__(self, task: Classifying, number: int) -> None:
        self.task, self.number = task, number

    def __len__(self) -> int:
        return len(self.task.train)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        task = self.task
        case_id = task.train[index]
        volume = task.scans[case_id].scan.scan
        if task.plan.augment:
            volume = shifted_and_turned(volume, np.random.default_rng([task.plan.seed, self.number, index]))
        return prepared_volume(volume, task.network.encoder.size_multiple), task.labels.values[case_id]


def prepared_volume(scan: NDArray[np.float32], multiple: tuple[int, int, int]) -> Tensor:
    """A scan ``(C, D, H, W)`` continued at its ends to whole patches."""
    depth, height, width = scan.shape[1:]
    return torch.from_numpy(pad(scan, padding_to((depth, height, width), multiple)))


@torch.inference_mode()
def probabilities_of(
    network: Classifier, scan: NDArray[np.float32], findings: bool, device: torch.device, bf16: bool
) -> list[float]:
    """Probabilities of the classes of a prepared scan, or of its findings.

    Args:
        network: in evaluation mode.
        scan: ``(C, D, H, W)``.
        findings: whether outputs are findings, each by itself, rather than classes.
        device: where the network is.
        bf16: multiply in bfloat16.
    """
    volume = prepared_volume(scan, network.encoder.size_multiple)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        (logits,) = network.of_one_shape(volume[None].to(device)).double()
    chances: list[float] = (logits.sigmoid() if findings else logits.softmax(dim=0)).tolist()
    return chances

"""Fine-tuning for masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from featlift.finetuning.changes import changes_of_space_and_intensity
from featlift.finetuning.classifying import prepared_volume
from featlift.finetuning.decoder import Masked, Segmenter, segmentation_loss
from featlift.finetuning.plan import FinetunePlan
from featlift.finetuning.rates import groups_of
from featlift.segmentation.loss import mean_dice
from featlift.training.scans import Sample, Scans
from featlift.training.splits import Split
from featlift.training.task import Task
from featlift.volumes.grid import padding_to

_BEYOND = -1


class Segmenting(Task[Masked]):
    """Volumes and their masks; validation is by the mean Dice of cases, each being the mean of its labels.

    Args:
        network: what is trained.
        scans: of all cases, with masks.
        labels: of the classes, in ascending order, background first.
        split: who does which.
        plan: how.
    """

    measure = "dice"
    network: Segmenter

    def __init__(
        self, network: Segmenter, scans: Scans, labels: Sequence[int], split: Split, plan: FinetunePlan
    ) -> None:
        self.network, self.scans, self.labels, self.plan = network, scans, tuple(labels), plan
        self.train, self.to_validate = split.train, split.val

    def dataset(self, number: int) -> Dataset[Any]:
        """See `Task`."""
        return _Volumes(self, number)

    def collated(self, items: Sequence[tuple[Tensor, Tensor]]) -> Masked:
        """Volumes of one shape: smaller ones are continued at their ends, where nothing is known."""
        multiple = self.network.encoder.size_multiple
        sizes = [max(volume.shape[axis] for volume, _ in items) for axis in (1, 2, 3)]
        sizes = [size + more for size, more in zip(sizes, padding_to(sizes, multiple), strict=True)]  # type: ignore[arg-type]
        volumes, classes = [], []
        for volume, labels in items:
            after = [size - have for size, have in zip(sizes, volume.shape[1:], strict=True)]
            widths = [width for size in reversed(after) for width in (0, size)]
            volumes.append(F.pad(volume[None], widths, mode="replicate")[0])
            classes.append(F.pad(labels, widths, value=_BEYOND))
        return Masked(torch.stack(volumes), torch.stack(classes))

    def on(self, batch: Masked, device: torch.device) -> Masked:
        """See `Task`."""
        return Masked(batch.volumes.to(device), batch.classes.to(device))

    def loss(self, outputs: Tensor, batch: Masked) -> Tensor:
        """See `Task`."""
        return segmentation_loss(outputs, batch.classes)

    def validated(self, names: Sequence[str], device: torch.device, bf16: bool) -> dict[str, Any]:
        """Mean Dice of each case over its labels, on the prepared voxels."""
        found = {}
        for case_id in names:
            sample = self.scans[case_id]
            chances = chances_of(self.network, sample.scan.scan, self.plan.crop, device, bf16)
            found[case_id] = mean_dice(chances.argmax(dim=0).numpy(), self.classes_of(sample))
        return found

    def score(self, found: Mapping[str, Any]) -> float:
        """Mean Dice over validation cases."""
        return float(np.nanmean([found[case_id] for case_id in self.to_validate]))

    def groups(self) -> list[dict[str, Any]]:
        """See `Task`."""
        return groups_of(self.network, self.plan)

    def classes_of(self, sample: Sample) -> NDArray[np.int64]:
        """The class of each voxel; -1 where the mask has a label that is not trained on."""
        assert sample.labels is not None
        return classes_of(sample.labels, self.labels)


class _Volumes(Dataset[Any]):
    def __init__(self, task: Segmenting, number: int) -> None:
        self.task, self.number = task, number
        self.changes = changes_of_space_and_intensity() if task.plan.augment else None

    def __len__(self) -> int:
        return len(self.task.train)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        plan = self.task.plan
        rng = np.random.default_rng([plan.seed, self.number, index])
        sample = self.task.scans[self.task.train[index]]
        volume, classes = cropped(sample.scan.scan, self.task.classes_of(sample), plan.crop, rng)
        image, labels = torch.from_numpy(volume.copy()), torch.from_numpy(classes.copy())[None]
        if self.changes is not None:
            self.changes.set_random_state(seed=int(rng.integers(1 << 31)))
            changed = self.changes({"image": image, "labels": labels.float()})
            image = changed["image"].as_tensor().clamp(0, 1)  # MONAI's tensors carry what has been done to them
            labels = changed["labels"].as_tensor().round().long()
        return image.contiguous(), labels[0].contiguous()


def classes_of(labels: NDArray[np.int32], known: Sequence[int]) -> NDArray[np.int64]:
    """The place of each label among those that are known, in ascending order; -1 for others."""
    places = np.searchsorted(known, labels).clip(0, len(known) - 1)
    return np.where(np.asarray(known)[places] == labels, places, _BEYOND)


def cropped(
    volume: NDArray[np.float32], classes: NDArray[np.int64], size: Sequence[int], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A box of voxels ``(C, D, H, W)`` and their classes, at a random place around a voxel of a class drawn first."""
    if not size:
        return volume, classes
    present = [label for label in np.unique(classes) if label >= 0]
    voxels = np.flatnonzero(classes == rng.choice(present))
    middle = np.unravel_index(voxels[rng.integers(len(voxels))], classes.shape)
    box = []
    for at, part, whole in zip(middle, size, classes.shape, strict=True):
        first = int(np.clip(int(at) - int(rng.integers(part)), 0, max(0, whole - part)))
        box.append(slice(first, first + part))
    return volume[(slice(None), *box)], classes[tuple(box)]


@torch.inference_mode()
def chances_of(
    network: Segmenter, scan: NDArray[np.float32], window: Sequence[int], device: torch.device, bf16: bool
) -> Tensor:
    """Probabilities of the classes ``(K, D, H, W)`` of a prepared scan, background first, on the CPU.

    Args:
        network: in evaluation mode.
        scan: ``(C, D, H, W)``.
        window: of larger scans, MONAI's sliding window of so many voxels, overlapping by a half with Gaussian weights;
            empty takes every scan whole.
        device: where the network is.
        bf16: multiply in bfloat16.
    """

    def predicted(volumes: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return network.logits(volumes.to(device)).float()

    multiple = network.encoder.size_multiple
    depth, height, width = scan.shape[1:]
    volume = prepared_volume(scan, multiple)[None]
    if window:
        from monai.inferers.utils import sliding_window_inference

        sizes = [size + more for size, more in zip(window, padding_to(tuple(window), multiple), strict=True)]  # type: ignore[arg-type]
        found: Any = sliding_window_inference(volume, sizes, 1, predicted, overlap=0.5, mode="gaussian", device="cpu")
    else:
        found = predicted(volume).cpu()
    logits: Tensor = found[0, :, :depth, :height, :width]
    if len(logits) == 1:
        return torch.cat([1 - logits.sigmoid(), logits.sigmoid()])
    return logits.softmax(dim=0)

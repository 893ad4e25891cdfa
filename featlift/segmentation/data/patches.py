"""Patches to train on, balanced over classes, and the changes that cached features allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from featlift.segmentation.data.cases import BEYOND
from featlift.segmentation.data.frame import Frame
from featlift.segmentation.data.survey import TrainingData
from featlift.segmentation.networks.head import Batch
from featlift.segmentation.plan import Patch
from featlift.volumes.regions import Box, cut


class Patches(Dataset[Batch]):
    """A patch of each training case in every epoch, the same ones for the same seed and epoch.

    A patch is placed around a voxel of a class that is drawn first, each of the case's with the same probability, so
    that a small structure is seen as often as the background.

    Args:
        material: the cases.
        patch: predicted voxels a side, or along d, h and w, at most, rounded up to whole cells; None takes whole
            volumes.
        seed: of places and changes.
        noise: standard deviation of the noise on features, in standard deviations of the channel.
    """

    def __init__(self, material: TrainingData, patch: Patch | None, seed: int, noise: float) -> None:
        self.material, self.patch, self.seed, self.noise = material, patch, seed, noise
        self.ids: list[str] = list(material.split.train)
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, self.epoch, index])
        case_id = self.ids[index]
        reader = self.material.reader
        frame = reader.frame(reader.store[case_id])
        box = self.placed(case_id, frame, rng)
        batch = reader.read(case_id, box)
        labels = torch.from_numpy(self.labels(case_id, frame.under(box)))[None]
        return self._changed(replace(batch, labels=labels), rng)

    def labels(self, case_id: str, under: Box) -> NDArray[Any]:
        """What is learnt at the predicted voxels of a patch, see `Batch.labels`."""
        found, _ = cut(self.material.reader.classes(case_id), None, under)
        return found.astype(np.int64)

    def placed(self, case_id: str, frame: Frame, rng: np.random.Generator) -> Box:
        """The cells of a patch."""
        if self.patch is None:
            return Box((0, 0, 0), frame.cells)
        classes = self.material.reader.classes(case_id)
        size = patch_cells(frame, self.patch)
        present = np.unique(classes[classes != BEYOND])
        voxels = np.flatnonzero(classes == rng.choice(present))
        voxel = np.unravel_index(voxels[rng.integers(len(voxels))], classes.shape)
        middle = [int(at) // ratio for at, ratio in zip(voxel, frame.ratio, strict=True)]
        # not always in the middle: anywhere in the patch
        start = [at - int(rng.integers(n)) for at, n in zip(middle, size, strict=True)]
        room = [cells - n for cells, n in zip(frame.cells, size, strict=True)]
        d, h, w = (int(np.clip(first, 0, free)) for first, free in zip(start, room, strict=True))
        return Box((d, h, w), size)

    def _changed(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Noise on features, and another brightness and contrast of the scan.

        Flips and rotations are not among them: a frozen 2D network answers to a flipped slice with other features than
        the flipped ones, and those of the flipped slice were not extracted.
        """
        changed = {}
        std = torch.from_numpy(self.material.std)
        source = torch.Generator().manual_seed(int(rng.integers(1 << 62)))  # faster than NumPy's
        for name in ("features", "slices"):
            values = getattr(batch, name)
            if values is not None and self.noise:
                noise = torch.randn(values.shape, generator=source)
                changed[name] = values + self.noise * noise * std.view(1, -1, *[1] * (values.ndim - 2))
        if batch.scan is not None:
            contrast, gamma, brightness = rng.uniform(0.75, 1.25), rng.uniform(0.7, 1.4), rng.uniform(-0.1, 0.1)
            changed["scan"] = batch.scan.clamp(0, 1) ** gamma * contrast + brightness
        return replace(batch, **changed)


def patch_cells(frame: Frame, patch: Patch) -> tuple[int, int, int]:
    """(d, h, w) in cells of a patch of as many predicted voxels a side or along each axis, or of all there are."""
    sides = (patch,) * 3 if isinstance(patch, int) else patch
    axes = zip(frame.cells, frame.ratio, sides, strict=True)
    d, h, w = (min(cells, -(-side // ratio)) for cells, ratio, side in axes)
    return d, h, w


def collated(items: Sequence[Batch]) -> Batch:
    """Patches of different sizes as one batch: the smaller ones repeat their last cells, without labels there."""
    held = [name for name, value in vars(items[0]).items() if value is not None]
    return Batch(**{name: _stacked([getattr(item, name) for item in items], name) for name in held})


def _stacked(tensors: Sequence[Tensor], name: str) -> Tensor:
    first = {"depth": 1, "slices": 2, "labels": 1}.get(name, 2)  # the axis after batch and channels
    sizes = [max(tensor.shape[axis] for tensor in tensors) for axis in range(first, tensors[0].ndim)]
    padded = []
    for tensor in tensors:
        after = [size - have for size, have in zip(sizes, tensor.shape[first:], strict=True)]
        widths = [width for size in reversed(after) for width in (0, size)]
        if not any(widths):
            padded.append(tensor)
        elif name == "labels":
            padded.append(F.pad(tensor, widths, value=BEYOND))
        elif name == "depth":
            padded.append(F.pad(tensor[None], widths, mode="replicate")[0])
        else:
            padded.append(F.pad(tensor, widths, mode="replicate"))
    return torch.cat(padded)

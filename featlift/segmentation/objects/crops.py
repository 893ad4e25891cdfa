"""Crops of volumes to learn affinities from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.segmentation.data.cases import BEYOND
from featlift.segmentation.data.frame import Frame
from featlift.segmentation.data.patches import Patches, patch_cells
from featlift.segmentation.data.survey import TrainingData
from featlift.segmentation.instances.affinities import affinities, widened
from featlift.segmentation.instances.settings import AffinitySettings
from featlift.segmentation.objects.labels import UNKNOWN
from featlift.segmentation.plan import Patch
from featlift.volumes.regions import Box

_RADIUS = 1  # pixels by which borders are widened


class Crops(Patches):
    """In every epoch, of each training case as many crops as it takes to cover it, anywhere in it.

    Args:
        material: the cases.
        objects: of each case on its predicted voxels, see `on_frame`.
        settings: what is learnt.
        patch: see `Patches`.
        seed: of places and changes.
        noise: see `Patches`.
    """

    def __init__(
        self,
        material: TrainingData,
        objects: Mapping[str, NDArray[Any]],
        settings: AffinitySettings,
        patch: Patch,
        seed: int,
        noise: float,
    ) -> None:
        super().__init__(material, patch, seed, noise)
        self.objects, self.settings, self.size = objects, settings, patch
        self.ids = [case_id for case_id in self.ids for _ in self.tiles(case_id)]

    def tiles(self, case_id: str) -> Iterator[Box]:
        """Boxes of cells side by side that cover a case."""
        frame = self.material.reader.frame(self.material.reader.store[case_id])
        size = patch_cells(frame, self.size)
        starts = [range(0, cells, n) for cells, n in zip(frame.cells, size, strict=True)]
        for d, h, w in product(*starts):
            depth, height, width = (
                min(n, cells - at) for n, cells, at in zip(size, frame.cells, (d, h, w), strict=True)
            )
            yield Box((d, h, w), (depth, height, width))

    def placed(self, case_id: str, frame: Frame, rng: np.random.Generator) -> Box:
        """See `Patches`."""
        size = patch_cells(frame, self.size)
        d, h, w = (int(rng.integers(cells - n + 1)) for cells, n in zip(frame.cells, size, strict=True))
        return Box((d, h, w), size)

    def labels(self, case_id: str, under: Box) -> NDArray[Any]:
        """See `Patches`."""
        return target_of(self.objects[case_id], under, self.settings)


def target_of(objects: NDArray[Any], box: Box, settings: AffinitySettings) -> NDArray[np.int8]:
    """Affinities in a box as they are in the whole volume, whatever of it lies beyond the box.

    Args:
        objects: ``(D, H, W)``, see `featlift.segmentation.objects.labels`.
        box: of voxels in it.
        settings: offsets and widening.

    Returns:
        ``(K, D, H, W)`` of the box: 0 or 1, `BEYOND` where one of a pair is unknown or outside of the volume.
    """
    reach = np.abs(settings.vectors).max(axis=0) + _RADIUS
    start = np.maximum(0, np.subtract(box.start, reach))
    stop = np.minimum(objects.shape, np.add(box.start, box.shape) + reach)
    part = objects[tuple(map(slice, start, stop))]
    known = part != UNKNOWN
    if settings.widen:
        known = widened(known, _RADIUS)  # a border with what is unknown is none
        part = widened(part, _RADIUS)
    inner = tuple(slice(at, at + n) for at, n in zip(np.subtract(box.start, start), box.shape, strict=True))
    counts, found = (affinities(each, settings.vectors)[(slice(None), *inner)] for each in (known, part))
    return np.where(counts, found, BEYOND).astype(np.int8)

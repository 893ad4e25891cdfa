"""One case as it is painted: its scan, and the components of its features, plane by plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.evaluation.cells import CellGrid
from featlift.evaluation.labelled import features_of, grid_of, layer_of
from featlift.pictures.anatomy import View
from featlift.pictures.colours import Colours
from featlift.store.case import Case

_SLAB = 8  # slices that are read at a time, as they are chunked


@dataclass(frozen=True, eq=False)
class Painting:
    """The features of one case in colours.

    Attributes:
        colours: of the basis.
        grid: where the cells lie among the voxels of the scan.
        components: ``(K, d, h, w)``.
        foreground: ``(d, h, w)``, above 0 for foreground.
    """

    colours: Colours
    grid: CellGrid
    components: NDArray[np.float32]
    foreground: NDArray[np.float32]

    @classmethod
    def of(cls, case: Case, colours: Colours, layer: int | None = None) -> Painting:
        """Read the features of a case, a few slices in memory at a time.

        Raises:
            OptionError: no such layer.
            StoreError: the features are damaged.
        """
        chosen = layer_of(case, layer)
        grid = grid_of(case, chosen)
        components = np.empty((len(colours.low), *grid.cells), np.float32)
        foreground = np.empty(grid.cells, np.float32)
        for first in range(0, grid.cells[0], _SLAB):
            slices = range(first, min(first + _SLAB, grid.cells[0]))
            features = features_of(chosen, case.id, slices)
            components[:, slices.start : slices.stop] = colours.project(features)
            foreground[slices.start : slices.stop] = colours.foreground_of(features)
        return cls(colours, grid, components, foreground)

    def picture(self, view: View, voxel: int) -> NDArray[np.uint8]:
        """One picture, ``(rows, columns, 4)`` on the voxels of the scan; the background is transparent.

        Cells are interpolated linearly before they are coloured.

        Args:
            view: which plane.
            voxel: of the scan, along the plane's normal.
        """
        planes = [self.grid.upsample(each, view.normal, voxel) for each in (*self.components, self.foreground)]
        rgb = view.picture(self.colours.rgb(np.stack(planes[:-1])), 0)
        alpha = view.picture(np.where(planes[-1] > 0, 255, 0).astype(np.uint8), 0)
        return np.dstack([rgb, alpha])


def scan_picture(case: Case, view: View, voxel: int) -> NDArray[np.float32]:
    """One picture of the stored scan, ``(rows, columns)`` in [0, 1]; of three windows their mean."""
    place: list[slice | int] = [slice(None)] * 3
    place[view.normal] = slice(voxel, voxel + 1)
    plane = np.asarray(case.scan[(..., *place)], np.float32)
    return view.picture(plane.mean(axis=0) if plane.ndim > 3 else plane, 0)


def middle(painting: Painting) -> tuple[int, int, int]:
    """(d, h, w) of the voxel in the middle of the foreground."""
    cells = np.argwhere(painting.foreground > 0)
    grid = painting.grid
    centre: Sequence[float] = cells.mean(axis=0) if len(cells) else [(count - 1) / 2 for count in grid.cells]
    d, h, w = (
        int(np.clip(round(offset + stride * index), 0, size - 1))
        for index, offset, stride, size in zip(centre, grid.offset, grid.stride, grid.voxels, strict=True)
    )
    return d, h, w

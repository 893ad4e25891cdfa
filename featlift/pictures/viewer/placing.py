"""The voxels that a page shows, and where the cells of every store lie among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.store.case import Case, CaseLayer
from featlift.store.cells import CellGrid
from featlift.store.features import grid_of
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine, scaled, spacing_of

#: Voxels of a scan that a browser draws and counts without a wait; larger scans are shown coarser.
MOST_VOXELS = 32_000_000

_ALIKE = 1.1  # axes whose spacings differ by less than this are made coarser together


@dataclass(frozen=True, eq=False)
class Shown:
    """The grid that a case is shown on: that of its scan, or every ``factors``-th voxel of it.

    Attributes:
        shape: (D, H, W).
        affine: maps indices ``(d, h, w, 1)`` to LPS millimetres, or None.
        factors: voxels of the scan in one that is shown, along d, h and w.
    """

    shape: Shape
    affine: Affine | None
    factors: Shape

    @classmethod
    def of(cls, case: Case, most: int = MOST_VOXELS) -> Shown:
        """The grid for a case: whole if that has at most so many voxels, else coarser where it is finest."""
        full = case.scan_shape
        spacing = (1.0, 1.0, 1.0) if case.scan_affine is None else spacing_of(case.scan_affine)
        factors = [1, 1, 1]
        while math.prod(shape := _divided(full, factors)) > most:
            shown = [length * factor for length, factor in zip(spacing, factors, strict=True)]
            factors = [factor + (length < _ALIKE * min(shown)) for factor, length in zip(factors, shown, strict=True)]
        d, h, w = factors
        affine = case.scan_affine
        coarser = None if affine is None else scaled(affine, (d, h, w), ((d - 1) / 2, (h - 1) / 2, (w - 1) / 2))
        return cls(shape, coarser, (d, h, w))

    def averaged(self, scan: NDArray[np.float16]) -> NDArray[np.uint8]:
        """A scan in [0, 1] as 0 to 255: the mean of the voxels that one stands for, and of its channels."""
        d, h, w = self.factors
        shown = np.empty(self.shape, np.uint8)
        for index, into in enumerate(shown):  # slice by slice: a scan in float32 is large
            part = np.asarray(scan[..., index * d : (index + 1) * d, :, :], np.float32)
            part = part.reshape(-1, *part.shape[-2:]).mean(axis=0)
            part = np.pad(part, [(0, -part.shape[0] % h), (0, -part.shape[1] % w)], mode="edge")
            rows, columns = self.shape[1:]
            into[...] = np.rint(255 * np.clip(part.reshape(rows, h, columns, w).mean(axis=(1, 3)), 0, 1))
        return shown

    def nearest(self, values: NDArray[Any]) -> NDArray[Any]:
        """Labels, or a map, ``(D, H, W)`` of the scan's voxels at the middle of each voxel that is shown."""
        at = [
            np.minimum(np.arange(size) * factor + (factor - 1) // 2, full - 1)
            for size, factor, full in zip(self.shape, self.factors, values.shape, strict=True)
        ]
        return values[np.ix_(*at)]

    def cells(self, case: Case, layer: CaseLayer, base: Case) -> CellGrid:
        """Where the cells of a case's layer lie among the voxels that are shown, those of the case `base`.

        Raises:
            OptionError: their grids are turned against each other.
        """
        own = grid_of(case, layer)
        scale, shift = _onto(case, base)
        stride, offset = (
            np.asarray(scale) * own.stride / self.factors,
            (np.asarray(scale) * own.offset + shift - (np.asarray(self.factors) - 1) / 2) / self.factors,
        )
        return CellGrid(own.cells, self.shape, _three(stride), _three(offset))


def _onto(case: Case, base: Case) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and shift of each axis that take a voxel of one case's scan to its place among those of another's."""
    sizes = np.array(case.scan_shape)
    if case.scan_affine is None or base.scan_affine is None:  # nothing is known but that it is the same scan
        scale = np.array(base.scan_shape) / sizes
        return scale, (scale - 1) / 2
    grid = np.linalg.solve(base.scan_affine, case.scan_affine)
    turned = grid[:3, :3] - np.diag(grid.diagonal()[:3])
    if (np.abs(turned) * sizes).sum(axis=1).max() > 0.5:  # half a voxel, at the far corner
        raise OptionError(
            f"{case.id}: the stores hold it on grids that are turned against each other: view one at a time"
        )
    return np.asarray(grid.diagonal()[:3]), np.asarray(grid[:3, 3])


def _divided(shape: Shape, factors: list[int]) -> Shape:
    d, h, w = (-(-size // factor) for size, factor in zip(shape, factors, strict=True))
    return d, h, w


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    d, h, w = values.tolist()
    return d, h, w

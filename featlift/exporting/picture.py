"""What of a case viewers are given: colours or chosen channels, on the grid of the scan or of the cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.pictures.colours import Colours
from featlift.pictures.painting import Painting
from featlift.store.case import Case, CaseLayer
from featlift.store.cells import CellGrid
from featlift.store.features import grid_of, layer_of, slabs_of
from featlift.volumes.volume import Affine

Grid = Literal["scan", "cells"]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image to be laid over the scan.

    Attributes:
        values: colours ``(D, H, W, 3)`` uint8, or channels ``(K, D, H, W)`` float32.
        affine: maps indices ``(d, h, w, 1)`` to LPS millimetres; None where the scan's geometry is unknown.
    """

    values: NDArray[Any]
    affine: Affine | None

    @property
    def is_coloured(self) -> bool:
        """Whether `values` are colours."""
        return self.values.dtype == np.uint8


def coloured(case: Case, colours: Colours, layer: int | None = None, on: Grid = "scan") -> Picture:
    """The dense features of a case as colours, the background black.

    Raises:
        StoreError: the features are damaged.
    """
    painting = Painting.of(case, colours, layer)
    # interpolated before they become colours, which would be clipped between two cells
    maps = np.concatenate([painting.components[:3], painting.foreground[None]])
    values = np.empty((*(painting.grid.voxels if on == "scan" else painting.grid.cells), 3), np.uint8)
    for d, here in enumerate(_slices(maps, painting.grid, on)):
        values[d] = colours.rgb(here[:-1]) * (here[-1] > 0)[..., None]
    return Picture(values, case.scan_affine if on == "scan" else layer_of(case, layer).affine)


def channels_of(case: Case, channels: Sequence[int], layer: int | None = None, on: Grid = "scan") -> Picture:
    """Some channels of a case as they are in the store, trilinear between the cells.

    Raises:
        OptionError: no such channel.
        StoreError: the features are damaged.
    """
    chosen = layer_of(case, layer)
    check_channels(chosen, channels)
    maps = np.concatenate([slab[list(channels)] for slab in slabs_of(chosen)], axis=1)
    grid = grid_of(case, chosen)
    values = np.empty((len(maps), *(grid.voxels if on == "scan" else grid.cells)), np.float32)
    for d, here in enumerate(_slices(maps, grid, on)):
        values[:, d] = here
    return Picture(values, case.scan_affine if on == "scan" else chosen.affine)


def check_channels(layer: CaseLayer, channels: Sequence[int]) -> None:
    """Refuse channels that a layer does not have."""
    count = layer.dense.shape[0]
    if missing := [channel for channel in channels if not 0 <= channel < count]:
        raise OptionError(f"--channels: no channel {missing[0]}; the features have {count}, counted from 0")


def _slices(maps: NDArray[np.float32], grid: CellGrid, on: Grid) -> Iterator[NDArray[np.float32]]:
    """Maps ``(K, d, h, w)`` on the grid asked for, ``(K, H, W)`` of one slice after the other."""
    if on == "cells":
        yield from np.moveaxis(maps, 1, 0)
        return
    for voxel in range(grid.voxels[0]):
        yield np.stack([grid.upsample(each, 0, voxel)[0] for each in maps])

"""Masks: where their labels lie on another grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.grid import Shape, on_grid
from featlift.volumes.volume import Affine, Volume

_LARGEST_LABEL = 1 << 24  # up to which float32 holds every whole number


def labels_on(mask: Volume, shape: Shape, affine: Affine | None) -> NDArray[np.int32]:
    """The labels of a mask at the voxels of another grid: each takes the nearest, 0 outside.

    Args:
        mask: with whole numbers.
        shape: (D, H, W) of the grid.
        affine: of the grid, to LPS millimetres. Where it or the mask's is unknown, the shapes must be the same, and
            voxels meet by their index.

    Returns:
        ``(D, H, W)``.

    Raises:
        VolumeError: the mask holds other values, or does not overlap the grid.
    """
    if not mask.array.any():
        raise VolumeError("not a mask: it is empty")
    if not ((mask.array == np.round(mask.array)) & (np.abs(mask.array) < _LARGEST_LABEL)).all():
        raise VolumeError("not a mask: it holds fractions, or numbers too large for labels")
    if affine is None or mask.affine is None:
        if mask.array.shape != shape:
            raise VolumeError(
                f"the mask has {_times(mask.array.shape)} voxels, the scan {_times(shape)}, and one of them does not "
                "say where it lies"
            )
        return mask.array.astype(np.int32)
    labels = on_grid(mask.array.astype(np.int32), mask.affine, shape, affine, order=0)
    if not labels.any():
        raise VolumeError("the mask does not overlap the scan: are they of one patient, and is its orientation right?")
    return labels


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

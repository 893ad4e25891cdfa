"""Bring a volume to the axis order in which every case of a cohort looks the same to the backbone."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine

#: ``LPS``: D runs from inferior to superior, H from anterior to posterior, W from right to left, each as nearly as the
#: volume's own axes allow. ``native``: as in the file.
Orientation = Literal["LPS", "native"]

_TARGET = (2, 1, 0)  # patient axis (x, y, z) that D, H and W follow


def orient_lps(array: NDArray[np.float32], affine: Affine) -> tuple[NDArray[np.float32], Affine]:
    """Permute and flip the axes of ``(..., D, H, W)`` to the closest LPS order; voxels keep their place in space."""
    order, flipped = lps_axes(affine)
    depth, height, width = array.shape[-3:]
    _, oriented = lps_grid((depth, height, width), affine)
    lead = range(array.ndim - 3)
    array = array.transpose(*lead, *(len(lead) + axis for axis in order))
    array = np.flip(array, tuple(len(lead) + axis for axis, flip in enumerate(flipped) if flip))
    return np.ascontiguousarray(array), oriented


def lps_grid(shape: Shape, affine: Affine) -> tuple[Shape, Affine]:
    """The shape ``(D, H, W)`` and the affine that `orient_lps` gives."""
    order, flipped = lps_axes(affine)
    grid = np.zeros((4, 4))  # new indices -> old indices
    grid[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flipped, strict=True)):
        grid[old, new] = -1 if flip else 1
        grid[old, 3] = shape[old] - 1 if flip else 0
    return (shape[order[0]], shape[order[1]], shape[order[2]]), affine @ grid


def lps_axes(affine: Affine) -> tuple[list[int], list[bool]]:
    """Which of the axes (d, h, w) become D, H and W of the closest LPS order, and which of these are flipped."""
    from nibabel.orientations import io_orientation

    closest = io_orientation(affine)  # for every array axis: the patient axis it is closest to, and its sign
    order = [int(np.flatnonzero(closest[:, 0] == axis)[0]) for axis in _TARGET]
    return order, [bool(closest[axis, 1] < 0) for axis in order]

"""The grid of a volume: spacing, size, padding to whole patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.volume import Affine, scaled, spacing_of

Shape = tuple[int, int, int]

_ROUNDING = 1e-3  # of a voxel: headers hold seven digits


def target_shape(shape: Shape, affine: Affine | None, spacing: tuple[float, ...], size: tuple[int, ...]) -> Shape:
    """Shape that a volume gets under ``--spacing`` and ``--size``.

    Args:
        shape: (D, H, W) as it is.
        affine: for its spacing.
        spacing: wanted millimetres along (d, h, w), 0 keeps an axis; empty keeps all.
        size: wanted voxels: (longer in-plane side,) with proportions kept, (H, W), or (D, H, W), 0 keeps an axis;
            empty keeps all.

    Raises:
        VolumeError: a spacing is asked for and the volume's is unknown.
    """
    depth, height, width = shape
    if spacing:
        if affine is None:
            raise VolumeError(
                "its spacing is unknown, so --spacing cannot be met: use --size, or none (of `pretrain`: --spacing 0)"
            )
        depth, height, width = (
            max(1, round(n * now / want)) if want else n
            for n, now, want in zip(shape, spacing_of(affine), spacing, strict=True)
        )
    if len(size) == 1:
        longer = max(height, width)
        height, width = max(1, round(height * size[0] / longer)), max(1, round(width * size[0] / longer))
    elif size:
        wanted_size = (0, *size)[-3:]
        depth, height, width = (want or n for n, want in zip((depth, height, width), wanted_size, strict=True))
    return depth, height, width


def resample(
    channels: NDArray[np.float32], affine: Affine | None, shape: Shape
) -> tuple[NDArray[np.float32], Affine | None]:
    """Resample ``(C, D, H, W)`` to another shape over the same field of view: linear, low-passed when shrinking."""
    before = channels.shape[1:]
    if tuple(before) == shape:
        return channels, affine
    import torch
    import torch.nn.functional as F

    def linear(images: torch.Tensor, to: tuple[int, int]) -> torch.Tensor:
        return F.interpolate(images, to, mode="bilinear", align_corners=False, antialias=True)

    values = torch.from_numpy(np.ascontiguousarray(channels))
    if tuple(before[1:]) != shape[1:]:
        values = linear(values.transpose(0, 1), shape[1:]).transpose(0, 1)
    if before[0] != shape[0]:
        values = linear(values.transpose(1, 2), (shape[0], shape[2])).transpose(1, 2)
    if affine is not None:
        steps = tuple(old / new for old, new in zip(before, shape, strict=True))
        affine = scaled(affine, steps, tuple((step - 1) / 2 for step in steps))
    return values.contiguous().numpy(), affine


def on_grid(
    array: NDArray[Any], affine: Affine, shape: Shape, onto: Affine, order: int, fill_value: float | None = 0
) -> NDArray[Any]:
    """The values of ``(D, H, W)`` at the voxels of another grid in the same patient.

    A voxel reaches half a step beyond its centre. Up to there the outermost ones are continued; mixing them with what
    lies beyond would wear them away.

    Args:
        array: the values.
        affine: of `array`.
        shape: (D, H, W) of the other grid.
        onto: affine of the other grid.
        order: 0 takes the nearest voxel, 1 interpolates linearly.
        fill_value: value of voxels that are centred outside of `array`; None continues its outermost ones.
    """
    from scipy.ndimage import affine_transform

    depth, height, width = array.shape
    to_array = np.linalg.solve(affine, onto)
    values: NDArray[Any] = affine_transform(
        array, to_array[:3, :3], to_array[:3, 3], output_shape=shape, order=order, mode="nearest"
    )
    if fill_value is not None:
        values[~inside((depth, height, width), affine, shape, onto)] = fill_value
    return values


def inside(shape: Shape, affine: Affine, of: Shape, onto: Affine) -> NDArray[np.bool_]:
    """Which voxels of another grid are centred in a volume, whose own voxels reach half a step beyond their centres.

    Args:
        shape: (D, H, W) of the volume.
        affine: of the volume.
        of: (D, H, W) of the other grid.
        onto: affine of the other grid.

    Returns:
        ``(D, H, W)`` of the other grid.
    """
    to_volume = np.linalg.solve(affine, onto)
    found = np.ones(of, np.bool_)
    _, rows, columns = (np.arange(size) for size in of)
    for (d, h, w, start), size in zip(to_volume[:3], shape, strict=True):
        in_first_slice = start + h * rows[:, None] + w * columns
        for number, found_in_slice in enumerate(found):  # all places of a CT at once would take gigabytes
            at = in_first_slice + d * number
            found_in_slice &= (at >= -0.5 - _ROUNDING) & (at <= size - 0.5 + _ROUNDING)
    return found


def padding_to(shape: Shape, multiple: Shape) -> Shape:
    """Voxels to add after the last slice, row and column so that D, H and W are multiples."""
    d, h, w = (-size % each for size, each in zip(shape, multiple, strict=True))
    return d, h, w


def pad(channels: NDArray[np.float32], padding: Shape) -> NDArray[np.float32]:
    """Continue the ends of ``(C, D, H, W)``: an edge of zeros would be the strongest feature there."""
    if not any(padding):
        return channels  # np.pad copies all the same
    return np.pad(channels, ((0, 0), *((0, after) for after in padding)), mode="edge")


def cells_within(size: int, stride: int, offset: float) -> int:
    """How many feature cells along an axis are centred in its `size` voxels, the rest being padding; at least one."""
    return max(1, math.floor((size - 0.5 - offset) / stride) + 1)

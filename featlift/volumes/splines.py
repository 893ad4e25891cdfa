"""Resampling by cubic splines as nnU-Net does it, for networks that were trained on scans made so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine, scaled, spacing_of

#: How many times further apart slices are than pixels, from which they are repeated instead of interpolated.
_ANISOTROPIC = 3


def resample_cubic(
    channels: NDArray[np.float32], affine: Affine | None, shape: Shape, spacing: tuple[float, ...] = ()
) -> tuple[NDArray[np.float32], Affine | None]:
    """Resample ``(C, D, H, W)`` to another shape over the same field of view by cubic splines, without low-pass.

    Along an axis that alone is more than three times as coarse as another, before or after, the nearest slice is taken:
    splines would ring. nnU-Net v2, ``resample_data_or_seg_to_shape`` with order 3 and order_z 0.

    Args:
        channels: the values.
        affine: for their spacing; None takes every axis alike.
        shape: (D, H, W) wanted.
        spacing: wanted millimetres, by which the axes are judged; empty goes by `shape`.
    """
    from scipy.ndimage import map_coordinates
    from skimage.transform import resize

    before = channels.shape[1:]
    if tuple(before) == shape:
        return channels, affine
    coarse, steps = None, tuple(old / new for old, new in zip(before, shape, strict=True))
    if affine is not None:
        now = spacing_of(affine)
        wanted = spacing or tuple(mm * step for mm, step in zip(now, steps, strict=True))
        coarse = _coarse_axis(now, wanted)
        affine = scaled(affine, steps, tuple((step - 1) / 2 for step in steps))
    found = np.empty((len(channels), *shape), np.float32)
    for channel, values in zip(found, channels.astype(np.float64), strict=True):
        if coarse is None:
            channel[...] = resize(values, shape, 3, mode="edge", anti_aliasing=False)
            continue
        slices = np.moveaxis(values, coarse, 0)
        in_plane = [size for axis, size in enumerate(shape) if axis != coarse]
        resized = np.stack([resize(each, in_plane, 3, mode="edge", anti_aliasing=False) for each in slices])
        places = steps[coarse] * (np.arange(shape[coarse]) + 0.5) - 0.5
        nearest = map_coordinates(np.arange(len(slices)), places[None], order=0, mode="nearest")
        channel[...] = np.moveaxis(resized[nearest], 0, coarse)
    return found, affine


def _coarse_axis(*spacings: tuple[float, ...]) -> int | None:
    """The one axis that is much coarser than another, by the first of these spacings that has any."""
    for spacing in spacings:
        if min(spacing) > 0 and max(spacing) / min(spacing) > _ANISOTROPIC:
            coarsest = [axis for axis, step in enumerate(spacing) if step == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None

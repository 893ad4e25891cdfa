"""Parts of a volume: the body, a box around a lesion or a point, every n-th slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine, Volume, scaled, spacing_of

_COARSE = 128  # voxels a side on which the body is looked for: a box needs no finer ones


@dataclass(frozen=True)
class Box:
    """A box of voxels, which may reach beyond the volume.

    Attributes:
        start: (d, h, w) of its first voxel.
        shape: (D, H, W).
    """

    start: tuple[int, int, int]
    shape: Shape


class Voxels(Protocol):
    """An array ``(..., D, H, W)``, in memory or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    def __getitem__(self, part: Any, /) -> Any:
        """A part of it, in memory."""


def cut(
    array: Voxels, affine: Affine | None, box: Box, fill_value: float | None = None
) -> tuple[NDArray[Any], Affine | None]:
    """The voxels of ``(..., D, H, W)`` in a box.

    Args:
        array: the volume.
        affine: of the volume.
        box: what to keep; some of it lies in the volume.
        fill_value: value of voxels beyond the volume; None repeats its outermost ones.
    """
    sizes = array.shape[-3:]
    if affine is not None:
        affine = scaled(affine, (1, 1, 1), box.start)
    within = tuple(
        slice(min(max(0, start), size - 1), max(1, min(size, start + length)))
        for start, length, size in zip(box.start, box.shape, sizes, strict=True)
    )
    outside = [
        (max(0, -start), max(0, start + length - size))
        for start, length, size in zip(box.start, box.shape, sizes, strict=True)
    ]
    part = array[..., within[0], within[1], within[2]]
    if any(map(any, outside)):
        widths = [(0, 0)] * (part.ndim - 3) + outside
        if fill_value is None:
            part = np.pad(part, widths, mode="edge")
        else:
            part = np.pad(part, widths, mode="constant", constant_values=fill_value)
    return part, affine


def nonzero_box(array: NDArray[np.float32]) -> Box:
    """The box around what is not zero in ``(D, H, W)``, or in channels of it; all of it if everything is."""
    depth, height, width = array.shape[-3:]
    found = array != 0 if array.ndim == 3 else (array != 0).any(axis=0)
    if not found.any():
        return Box((0, 0, 0), (depth, height, width))
    ends = []
    for axis in range(3):
        (along,) = np.nonzero(found.any(axis=tuple(other for other in range(3) if other != axis)))
        ends.append((int(along[0]), int(along[-1]) + 1))
    (d, to_d), (h, to_h), (w, to_w) = ends
    return Box((d, h, w), (to_d - d, to_h - h, to_w - w))


def body_box(array: NDArray[np.float32], affine: Affine | None, margin_mm: float) -> Box:
    """The box around the foreground of ``(D, H, W)``: the largest piece brighter than Otsu's threshold.

    Args:
        array: the volume.
        affine: for its spacing; unknown counts as 1 mm.
        margin_mm: to leave around it.
    """
    from scipy.ndimage import find_objects, label
    from skimage.filters import threshold_otsu

    steps = tuple(max(1, -(-size // _COARSE)) for size in array.shape)
    coarse = array[tuple(slice(None, None, step) for step in steps)]
    coarse = np.clip(coarse, *np.percentile(coarse, (0.5, 99.5)))  # metal and padding would draw the threshold
    if coarse.min() == coarse.max():
        return Box((0, 0, 0), (array.shape[0], array.shape[1], array.shape[2]))
    pieces, _ = label(coarse > threshold_otsu(coarse))
    largest = find_objects(pieces)[int(np.bincount(pieces.ravel())[1:].argmax())]
    spacing = (1.0, 1.0, 1.0) if affine is None else spacing_of(affine)
    bounds = []
    for where, step, size, mm in zip(largest, steps, array.shape, spacing, strict=True):
        margin = round(margin_mm / mm)
        bounds.append((max(0, (where.start - 1) * step + 1 - margin), min(size, where.stop * step + margin)))
    (d0, d1), (h0, h1), (w0, w1) = bounds
    return Box((d0, h0, w0), (d1 - d0, h1 - h0, w1 - w0))


def box_around(shape: Shape, affine: Affine | None, centre: tuple[float, ...], size_mm: tuple[float, ...]) -> Box:
    """The box of this size around a point.

    Args:
        shape: (D, H, W) of the volume.
        affine: of the volume.
        centre: (x, y, z), LPS millimetres.
        size_mm: of the box along d, h and w.

    Raises:
        VolumeError: the geometry is unknown, or the point is outside the volume.
    """
    if affine is None:
        raise VolumeError("its geometry is unknown, so a region in millimetres has no place in it")
    index = np.linalg.solve(affine, [*centre, 1.0])[:3]
    if not ((index >= -0.5) & (index <= np.array(shape) - 0.5)).all():
        point = ", ".join(f"{value:.1f}" for value in centre)
        raise VolumeError(
            f"the region's centre ({point}; LPS mm) lies outside the scan: is it of another one, or in RAS?"
        )
    d, h, w = (max(1, round(mm / step)) for mm, step in zip(size_mm, spacing_of(affine), strict=True))
    start = np.round(index - (np.array([d, h, w]) - 1) / 2).astype(int)
    return Box((int(start[0]), int(start[1]), int(start[2])), (d, h, w))


def centres_of_lesions(mask: Volume) -> list[tuple[float, float, float]]:
    """The centre (LPS mm) of the box around each connected piece of a mask, in the order of its voxels.

    Raises:
        VolumeError: the mask's geometry is unknown.
    """
    from scipy.ndimage import find_objects, label

    if mask.affine is None:
        raise VolumeError("the mask does not say where it lies, so its lesions have no place in the patient")
    pieces, _ = label(mask.array > 0)
    centres = []
    for where in find_objects(pieces):
        middle = [(axis.start + axis.stop - 1) / 2 for axis in where]
        x, y, z = (mask.affine @ [*middle, 1.0])[:3]
        centres.append((float(x), float(y), float(z)))
    return centres

"""Colours as an OME-Zarr pyramid, for napari and Neuroglancer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.exporting.picture import Picture
from featlift.store.layout import NAMESPACE
from featlift.store.ome import VERSION, placement
from featlift.volumes.orientation import orient_lps
from featlift.volumes.volume import Affine, scaled, spacing_of

_CHUNK = 64  # voxels along z, y and x, all three colours together: what a viewer fetches at a time, 768 KiB
_COLOURS = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}


def write_ome_zarr(folder: Path, picture: Picture) -> None:
    """Write a group of OME-Zarr 0.5 (Zarr v3): uint8, axes c, z, y, x, halved again and again until a chunk holds it.

    OME-Zarr knows scale and translation in millimetres but no rotation: an oblique scan stands straight in viewers, its
    first voxel in its place, and the full affine in our own attributes.

    Args:
        folder: to make; ends in .ome.zarr.
        picture: colours.

    Raises:
        OSError: the folder cannot be written.
    """
    import zarr
    from zarr.codecs import GzipCodec

    image, affine = np.moveaxis(picture.values, -1, 0), picture.affine
    if affine is not None:
        image, affine = orient_lps(image, affine)
    group = zarr.open_group(folder, mode="w-", zarr_format=3)
    datasets = []
    for number, (level, place) in enumerate(_pyramid(image, affine)):
        array = group.create_array(
            str(number),
            shape=level.shape,
            dtype=level.dtype,
            chunks=(3, *(min(_CHUNK, n) for n in level.shape[1:])),
            compressors=GzipCodec(level=1),  # every reader knows it
            dimension_names=("c", "z", "y", "x"),
        )
        for start in range(0, level.shape[1], _CHUNK):  # all at once, every chunk would be in memory twice
            array[:, start : start + _CHUNK] = level[:, start : start + _CHUNK]
        datasets.append({"path": str(number), "coordinateTransformations": placement(place)})
    unit = {} if affine is None else {"unit": "millimeter"}
    axes: list[Any] = [{"name": "c", "type": "channel"}, *({"name": name, "type": "space", **unit} for name in "zyx")]
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    channels: list[Any] = [
        {"label": name, "color": colour, "window": window, "active": True} for name, colour in _COLOURS.items()
    ]
    multiscales: list[Any] = [{"name": folder.name, "axes": axes, "datasets": datasets}]
    group.attrs["ome"] = {"version": VERSION, "multiscales": multiscales, "omero": {"channels": channels}}
    group.attrs[NAMESPACE] = {"affine_lps_mm": None if affine is None else affine.tolist()}


def _pyramid(image: NDArray[np.uint8], affine: Affine | None) -> Iterator[tuple[NDArray[np.uint8], Affine]]:
    """The image ``(3, D, H, W)`` and halves of it, each with its affine, which counts voxels where it is unknown."""
    place = np.eye(4)[:, [2, 1, 0, 3]]  # (d, h, w) are (z, y, x); a rotation cannot be said, so levels have none either
    if affine is not None:
        place = place @ np.diag([*spacing_of(affine), 1.0])
        place[:3, 3] = affine[:3, 3]
    while True:
        yield image, place
        if max(image.shape[1:]) <= _CHUNK:
            return
        spacing = spacing_of(place)
        # thick slices are kept until voxels are as long as they are thick
        halved = [n > 1 and step < 2 * min(spacing) for n, step in zip(image.shape[1:], spacing, strict=True)]
        for axis, is_halved in enumerate(halved, start=1):
            if is_halved:
                image = _half(image, axis)
        place = scaled(
            place, tuple(2.0 if each else 1.0 for each in halved), tuple(0.5 if each else 0.0 for each in halved)
        )


def _half(image: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """The mean of every two voxels along an axis; the last one stands for itself where their number is odd."""
    first = image[(slice(None),) * axis + (slice(0, None, 2),)]
    second = image[(slice(None),) * axis + (slice(1, None, 2),)]
    if second.shape != first.shape:
        second = np.concatenate([second, first[(slice(None),) * axis + (slice(-1, None),)]], axis=axis)
    mean = first ^ second  # rounded up, in eight bits: (a | b) - ((a ^ b) >> 1)
    mean >>= 1
    np.subtract(first | second, mean, out=mean)
    return mean

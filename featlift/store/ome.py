"""OME-Zarr 0.5 metadata of a volume, so that viewers find its grids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.volumes.volume import spacing_of

VERSION = "0.5"


def ome_attributes(grids: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """``{"ome": ...}`` with one multiscales entry a dense array, or nothing where its axes are not z, y and x.

    OME-Zarr can say scale and translation but no rotation: the full affine stands in our own attributes. The first axis
    has a type of its own, ``feature``: as a channel axis it would open as hundreds of layers.

    Args:
        grids: path of each dense array and its attributes, of which ``affine`` is used.
    """
    multiscales = []
    for path, attributes in grids.items():
        if attributes.get("affine") is None:
            continue
        affine = np.array(attributes["affine"])
        if not _follows_zyx(affine):
            continue
        multiscales.append(
            {
                "name": path,
                "axes": [{"name": "feature", "type": "feature"}]
                + [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"],
                "datasets": [{"path": path, "coordinateTransformations": placement(affine)}],
            }
        )
    return {"ome": {"version": VERSION, "multiscales": multiscales}} if multiscales else {}


def placement(affine: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Where an array ``(C, d, h, w)`` lies whose d, h and w run along z, y and x: its scale, and its first voxel."""
    origin = affine[:3, 3][::-1]  # (x, y, z) -> (z, y, x)
    return [
        {"type": "scale", "scale": [1.0, *spacing_of(affine)]},
        {"type": "translation", "translation": [0.0, *(float(x) for x in origin)]},
    ]


def _follows_zyx(affine: NDArray[np.float64]) -> bool:
    """Whether d, h and w run most nearly along +z, +y and +x, as they do unless `--orient native` was asked for."""
    axes = affine[:3, :3]
    return bool((np.abs(axes).argmax(axis=0) == [2, 1, 0]).all() and (axes[[2, 1, 0], [0, 1, 2]] > 0).all())

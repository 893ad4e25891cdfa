"""Arrays in files that hold several: which of them is read, what its axes are, and where those of CREMI lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from featlift.errors import VolumeError
from featlift.volumes.formats.voxels import frames_and_shape
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine

_COLOURS = (3, 4)
_CREMI = "volumes/"  # the group of its arrays; elsewhere these attributes could mean anything
_NANOMETRE = 1e-6  # in millimetres


def array_shape(shape: tuple[int, ...]) -> tuple[int, Shape]:
    """Frames and (D, H, W) of an array: the frames, if any, on its first axis.

    Raises:
        VolumeError: it is not that of one or several volumes.
    """
    if len(shape) in (3, 4) and shape[-1] in _COLOURS:
        text = " x ".join(map(str, shape))
        raise VolumeError(f"its last axis ({text}) looks like colours or channels: put channels first, as frames")
    return frames_and_shape(shape)


def index_of_frame(frame: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Where a frame is in an array: axes of length 1 may stand before that of the frames."""
    return tuple(int(i) for i in np.unravel_index(frame, shape[:-3]))


def chosen(key: str | None, shapes: Mapping[str, tuple[int, ...]], ask: str = "--key NAME or FILE::NAME") -> str:
    """The array to read: the one asked for, or the only one with three axes or more.

    Args:
        key: the name asked for, or None.
        shapes: of the arrays in the file, by name.
        ask: how to ask for one.

    Raises:
        VolumeError: there is none of that name, or there are several.
    """
    listed = ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in list(shapes.items())[:8])
    if key is not None:
        name = key.strip("/")
        if name not in shapes:
            raise VolumeError(f"no array {key!r} in it; it holds {listed or 'none'}")
        return name
    volumes = [name for name, shape in shapes.items() if len(shape) >= 3]
    if len(volumes) != 1:
        what = f"{len(volumes)} arrays that could be the scan" if volumes else "no array of three axes"
        raise VolumeError(f"it holds {what} ({listed or 'nothing'}){f': choose with {ask}' if volumes else ''}")
    return volumes[0]


def cremi_affine(name: str, attributes: Mapping[str, Any]) -> Affine | None:
    """Where an array lies that is laid out as CREMI's are: ``volumes/...`` with ``resolution`` and perhaps ``offset``.

    Both are in nanometres along z, y, x, which are taken as the axes of LPS.

    Args:
        name: of the array, its path inside.
        attributes: of the array.

    Returns:
        The affine to millimetres; None for an array of another layout.

    Raises:
        VolumeError: not three numbers, or a resolution that is not positive.
    """
    if not name.startswith(_CREMI) or "resolution" not in attributes:
        return None
    resolution = np.asarray(attributes["resolution"], np.float64)
    offset = np.asarray(attributes.get("offset", (0, 0, 0)), np.float64)
    if resolution.shape != (3,) or offset.shape != (3,) or not (resolution > 0).all() or not np.isfinite(offset).all():
        raise VolumeError(f"the resolution or offset of {name} is not three numbers, in nanometres along z, y, x")
    affine = np.eye(4)[[2, 1, 0, 3]]
    affine[:3, :3] *= resolution * _NANOMETRE
    affine[:3, 3] = offset[::-1] * _NANOMETRE
    return affine

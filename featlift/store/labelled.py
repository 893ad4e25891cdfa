"""Features as xarray has them: named axes, and millimetres along each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.volumes.volume import Affine, spacing_of

if TYPE_CHECKING:
    import xarray

_AXES = ("z", "y", "x")


def labelled(
    name: str,
    features: NDArray[Any],
    affine: Affine | None,
    stride: tuple[float, ...],
    offset: tuple[float, ...],
    attributes: dict[str, Any],
) -> xarray.DataArray:
    """See `CaseLayer.to_xarray`."""
    try:
        import xarray
    except ImportError as error:
        raise OptionError("to_xarray needs xarray: pip install xarray") from error
    sizes = features.shape[1:]
    if affine is None:
        places = [low + step * np.arange(size) for low, step, size in zip(offset, stride, sizes, strict=True)]
        unit = "voxel"
    else:
        steps = np.array(spacing_of(affine))
        directions = affine[:3, :3] / steps
        # along its patient axis upwards, so that the coordinates of a scan that lies straight are LPS millimetres
        largest = np.abs(directions).argmax(axis=0)
        signs = np.sign(directions[largest, range(3)])
        directions, steps = directions * signs, steps * signs
        origin = np.linalg.solve(directions, affine[:3, 3])
        places = [low + step * np.arange(size) for low, step, size in zip(origin, steps, sizes, strict=True)]
        unit = "mm"
        attributes = {**attributes, "affine_lps_mm": affine.tolist(), "directions_lps": directions.tolist()}
    coordinates = {axis: (axis, place, {"units": unit}) for axis, place in zip(_AXES, places, strict=True)}
    return xarray.DataArray(features, coordinates, ("feature", *_AXES), name, attributes)

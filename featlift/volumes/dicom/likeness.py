"""Refuse slices that are not alike: one orientation, one size, one pixel spacing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.dicom.slices import Slice

_PLANES = ("sagittal", "coronal", "axial")  # by the axis (x, y, z) that the normal is closest to

_SAME_COSINE = 1e-3  # three decimals
_SAME_SPACING = 1e-3  # mm


def check_alike(slices: Sequence[Slice]) -> None:
    """Check that slices can be stacked.

    Raises:
        VolumeError: they differ, with how many there are of each kind and which are the odd ones.
    """
    _check("orientations", slices, lambda one: one.orientation.ravel(), _SAME_COSINE, _plane)
    _check("image sizes", slices, lambda one: np.array(one.shape), 0, lambda one: "{} x {}".format(*one.shape))
    _check(
        "scales of values",  # one that lost its RescaleSlope would differ from its neighbours by 1024 HU
        slices,
        lambda one: np.array([one.is_scaled]),
        0,
        lambda one: "with RescaleSlope" if one.is_scaled else "without",
    )
    _check(
        "pixel spacings",
        slices,
        lambda one: np.array(one.spacing),
        _SAME_SPACING,
        lambda one: "{:g} x {:g} mm".format(*one.spacing),
    )


def normal_of(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit vector (3,) from slice to slice: along rows x down columns."""
    normal = np.cross(*orientation)
    return np.asarray(normal / np.linalg.norm(normal))


def _check(
    what: str,
    slices: Sequence[Slice],
    vector: Callable[[Slice], NDArray[np.float64]],
    tolerance: float,
    described: Callable[[Slice], str],
) -> None:
    kinds: list[list[Slice]] = []
    for one in slices:
        for kind in kinds:
            if np.allclose(vector(one), vector(kind[0]), rtol=0, atol=tolerance):
                kind.append(one)
                break
        else:
            kinds.append([one])
    if len(kinds) > 1:
        kinds.sort(key=len, reverse=True)
        counts = ", ".join(f"{len(kind)} {described(kind[0])}" for kind in kinds[:4])
        raise VolumeError(
            f"mixed {what}: {counts}{', ...' if len(kinds) > 4 else ''}; the odd ones start at {kinds[1][0].label}: "
            "keep one kind in the folder"
        )


def _plane(one: Slice) -> str:
    normal = normal_of(one.orientation)
    axis = int(np.argmax(np.abs(normal)))
    off = np.degrees(np.arccos(min(1.0, abs(normal[axis]))))
    return _PLANES[axis] if off < 1 else f"{_PLANES[axis]} tilted by {off:.0f} degrees"

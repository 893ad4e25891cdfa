"""How the planes of a volume are shown: which way is up, how long a row is, which side of the patient is where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.volumes.volume import Affine, spacing_of

#: Every plane by the axes of (d, h, w) that it spans.
PLANES = {"HW": (1, 2), "DW": (0, 2), "DH": (0, 1)}

_LETTERS = (
    ("R", "L"),
    ("A", "P"),
    ("I", "S"),
)  # the ends of the patient's axes in LPS: x grows to the left, y to the back, z upwards
_SIDE, _FRONT, _LENGTH = range(3)


@dataclass(frozen=True)
class View:
    """One plane as radiologists are shown it: superior or anterior is up, the patient's right or front is left.

    Attributes:
        plane: ``HW``, ``DW`` or ``DH``.
        normal: the axis of (d, h, w) that an index chooses a picture along.
        down: the axis that runs down the picture.
        right: the axis that runs to the right.
        flips: whether ``down`` and ``right`` run against the array.
        spacing: mm of a row and of a column of the picture; 1 and 1 where the geometry is unknown.
        step: mm from one picture to the next; 1 where the geometry is unknown.
        letters: of the sides of the patient at the top, right, bottom and left; None where the geometry is unknown.
        name: ``axial``, ``coronal`` or ``sagittal``, whichever is closest; the plane where the geometry is unknown.
    """

    plane: str
    normal: int
    down: int
    right: int
    flips: tuple[bool, bool]
    spacing: tuple[float, float]
    step: float
    letters: tuple[str, str, str, str] | None
    name: str

    def picture(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """One picture of an array on any grid of this orientation, its first row at the top.

        Args:
            array: ``(d, h, w)``, or ``(d, h, w, 3)`` for colours.
            index: along the normal.

        Returns:
            ``(rows, columns)`` or ``(rows, columns, 3)``, a view of the array.
        """
        plane = np.take(array, index, axis=self.normal)
        if self.down > self.right:
            plane = plane.swapaxes(0, 1)
        rows, columns = (slice(None, None, -1) if flip else slice(None) for flip in self.flips)
        shown: NDArray[Any] = plane[rows, columns]
        return shown

    def extent(self, sizes: tuple[int, ...]) -> tuple[float, float]:
        """Height and width in mm of the pictures of a volume ``(D, H, W)``."""
        return sizes[self.down] * self.spacing[0], sizes[self.right] * self.spacing[1]


def views(affine: Affine | None) -> dict[str, View]:
    """How to show the three planes of a volume.

    Args:
        affine: maps indices ``(d, h, w, 1)`` to LPS millimetres; None where the geometry is unknown, and pictures are
            then as the array lies.
    """
    return {plane: _unknown(plane) if affine is None else _view(plane, affine) for plane in PLANES}


def _unknown(plane: str) -> View:
    down, right = PLANES[plane]
    return View(plane, 3 - down - right, down, right, (False, False), (1.0, 1.0), 1.0, None, plane)


def _view(plane: str, affine: Affine) -> View:
    closest, ends = _patient_axes(affine)
    spacing = spacing_of(affine)
    # of two axes the patient's length runs down, or else the way from front to back
    right, down = sorted(PLANES[plane], key=lambda axis: closest[axis])
    flips = (ends[down][0] not in "SA", ends[right][0] not in "RA")
    top, bottom = ends[down][::-1] if flips[0] else ends[down]
    left, rightmost = ends[right][::-1] if flips[1] else ends[right]
    normal = 3 - down - right
    name = ("sagittal", "coronal", "axial")[closest[normal]]
    return View(
        plane,
        normal,
        down,
        right,
        flips,
        (spacing[down], spacing[right]),
        spacing[normal],
        (top, rightmost, bottom, left),
        name,
    )


def _patient_axes(affine: Affine) -> tuple[list[int], list[tuple[str, str]]]:
    """For every array axis the patient's axis that it is closest to, no two the same, and the letters of its ends."""
    from nibabel.orientations import io_orientation

    closest = io_orientation(affine)
    axes = [int(axis) for axis in closest[:, 0]]
    ends = [
        _LETTERS[axis] if sign > 0 else _LETTERS[axis][::-1] for axis, sign in zip(axes, closest[:, 1], strict=True)
    ]
    return axes, ends

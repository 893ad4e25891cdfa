"""A volume: an array and where it lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]


@dataclass(frozen=True, eq=False)
class Volume:
    """One scan.

    Attributes:
        array: ``(D, H, W)`` float32, in the units of the file (HU for CT); ``(3, D, H, W)`` if three images were read
            as the channels of one volume.
        affine: 4x4, maps indices ``(d, h, w, 1)`` to LPS millimetres; None where the file does not say.
        modality: ``CT``, ``MR``, ... if the file says.
        source: what identifies the file: its ``bytes``, ``mtime_ns`` and ``sha256``, and the ``key`` of the array in
            it. No path, no patient tag.
        notes: what was done to read it that changes what is seen, such as slices brought onto a regular grid.
    """

    array: NDArray[np.float32]
    affine: Affine | None = None
    modality: str | None = None
    source: dict[str, Any] | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Millimetres between voxels along (d, h, w), or None."""
        return None if self.affine is None else spacing_of(self.affine)


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Millimetres between voxels along the three axes of an affine."""
    d, h, w = np.linalg.norm(affine[:3, :3], axis=0)
    return float(d), float(h), float(w)


def lps_ras(affine: Affine) -> Affine:
    """An affine of ``(d, h, w, 1)`` to LPS millimetres as NIfTI's of ``(i, j, k, 1)`` to RAS, or that one as ours.

    NIfTI's first axis is the fastest, our last one.
    """
    return np.asarray(_LPS_RAS @ affine @ _REVERSED)


def scaled(affine: Affine, scale: tuple[float, ...], offset: tuple[float, ...]) -> Affine:
    """Affine of a grid whose index i sits at index ``offset + scale * i`` of the grid of `affine`, axis by axis."""
    grid = np.diag([*scale, 1.0])
    grid[:3, 3] = offset
    return np.asarray(affine @ grid)

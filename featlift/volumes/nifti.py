"""An array on the grid of a scan as a NIfTI file, for 3D Slicer, ITK-SNAP and the like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.volumes.volume import Affine

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # (i, j, k) -> (d, h, w): NIfTI's first axis is the fastest


def write_nifti(path: Path, array: NDArray[Any], affine: Affine | None, intent: str = "none") -> None:
    """Write ``(D, H, W)`` to a file that ends in .nii or .nii.gz.

    Args:
        path: of the file.
        array: its values, stored in the array's own type; vectors are ``(3, 1, D, H, W)``.
        affine: maps indices ``(d, h, w, 1)`` to LPS millimetres; NIfTI's codes say "unknown" where it is None.
        intent: what the values mean, in nibabel's words, such as ``vector``.

    Raises:
        OSError: the file cannot be written.
    """
    from nibabel import Nifti1Image, save

    place = None if affine is None else _LPS_TO_RAS @ affine @ _REVERSED
    image = Nifti1Image(array.T, place, dtype=array.dtype)  # said, as nibabel asks of 64 bits
    image.header.set_xyzt_units("mm")
    image.header.set_intent(intent)
    save(image, path)

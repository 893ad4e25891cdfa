"""An array on the grid of a scan as NIfTI, for 3D Slicer, ITK-SNAP, nibabel and the like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from featlift.volumes.volume import Affine, lps_ras

if TYPE_CHECKING:
    from nibabel import Nifti1Image


def nifti_image(array: NDArray[Any], affine: Affine | None, intent: str = "none") -> Nifti1Image:
    """An image of ``(D, H, W)``, which nibabel indexes ``(i, j, k)``: the array's last axis is the first.

    Args:
        array: its values, kept in the array's own type; channels are ``(C, D, H, W)``, vectors ``(3, 1, D, H, W)``.
        affine: maps indices ``(d, h, w, 1)`` to LPS millimetres; NIfTI's codes say "unknown" where it is None.
        intent: what the values mean, in nibabel's words, such as ``vector``.
    """
    from nibabel import Nifti1Image

    image = Nifti1Image(array.T, None if affine is None else lps_ras(affine), dtype=array.dtype)  # 64 bits too
    image.header.set_xyzt_units("mm")
    image.header.set_intent(intent)
    return image


def write_nifti(path: Path, array: NDArray[Any], affine: Affine | None, intent: str = "none") -> None:
    """Write `nifti_image` to a file that ends in .nii or .nii.gz.

    Raises:
        OSError: the file cannot be written.
    """
    from nibabel import save

    save(nifti_image(array, affine, intent), path)

"""NRRD and MHA files, through SimpleITK."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.mha import check_mha
from featlift.volumes.volume import Affine


def read_itk(path: Path, max_voxels: int) -> tuple[NDArray[np.float32], Affine | None]:
    """Read a NRRD or MHA file.

    Returns:
        ``(D, H, W)`` and its affine to LPS millimetres, ITK's own convention.
    """
    import SimpleITK as sitk

    if path.suffix.lower() == ".mha":
        check_mha(path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if reader.GetNumberOfComponents() > 1:
            raise VolumeError(f"{reader.GetNumberOfComponents()} values a voxel: convert it to one value a voxel")
        if math.prod(size) > max_voxels:
            raise VolumeError(f"its header declares {math.prod(size):,} voxels, more than the {max_voxels:,} allowed")
        image = reader.Execute()
    except RuntimeError as error:
        raise VolumeError(f"not a readable {path.suffix[1:].upper()} file ({_reason(error)})") from error
    array = sitk.GetArrayFromImage(image)
    if np.iscomplexobj(array):
        raise VolumeError("complex voxels: give magnitude or phase")
    array = array.astype(np.float32, copy=False)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    return array, affine_of(image) if image.GetDimension() == 3 else None


def affine_of(image: object) -> Affine:
    """Affine of a 3D SimpleITK image: indices ``(d, h, w, 1)`` to LPS millimetres."""
    direction = np.array(image.GetDirection()).reshape(3, 3)  # type: ignore[attr-defined]
    affine = np.eye(4)
    affine[:3, :3] = (direction * np.array(image.GetSpacing()))[:, ::-1]  # type: ignore[attr-defined]
    affine[:3, 3] = image.GetOrigin()  # type: ignore[attr-defined]
    return affine


def _reason(error: RuntimeError) -> str:
    """The last line of ITK's report, without its address and source file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("): ")[2][:160] if lines else "no reason given"

"""Scan files as nibabel and SimpleITK write them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

RAS_TO_LPS = np.diag([-1.0, -1, 1, 1])
REVERSED = np.eye(4)[[2, 1, 0, 3]]

#: Indices (d, h, w) to LPS millimetres: rotated about all axes, another spacing along each.
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix() @ np.diag([0.7, 0.9, 3])
OBLIQUE[:3, 3] = -12.5, 40, -301
OBLIQUE = OBLIQUE @ REVERSED

#: Every way in which the tests write a scan.
FORMATS = ["1.nii", "2.nii", "1.nii.gz", "2.nii.gz", "raw.nrrd", "gzip.nrrd", "raw.mha", "zlib.mha"]


def noise(shape: tuple[int, ...] = (7, 11, 13), dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    """Write ``(..., D, H, W)``. Before its first dot the name says which NIfTI, or how NRRD and MHA are packed."""
    kind = path.name.partition(".")[0]
    if ".nii" in path.name:
        image_class = nib.Nifti2Image if kind == "2" else nib.Nifti1Image
        nib.save(image_class(array.T, RAS_TO_LPS @ affine @ REVERSED, dtype=array.dtype), path)
    else:
        image = sitk.GetImageFromArray(array)
        if array.ndim == 3:
            axes = (affine @ REVERSED)[:3, :3]
            spacing = np.linalg.norm(axes, axis=0)
            image.SetSpacing(spacing.tolist())
            image.SetDirection((axes / spacing).ravel().tolist())
            image.SetOrigin(affine[:3, 3].tolist())
        sitk.WriteImage(image, str(path), useCompression=kind in ("gzip", "zlib"))
    return path

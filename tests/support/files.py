"""Scan files as nibabel, SimpleITK, NumPy, h5py, tifffile and zarr write them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk
import tifffile
import zarr
from scipy.spatial.transform import Rotation

RAS_TO_LPS = np.diag([-1.0, -1, 1, 1])
REVERSED = np.eye(4)[[2, 1, 0, 3]]

#: Indices (d, h, w) to LPS millimetres: rotated about all axes, another spacing along each.
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix() @ np.diag([0.7, 0.9, 3])
OBLIQUE[:3, 3] = -12.5, 40, -301
OBLIQUE = OBLIQUE @ REVERSED

#: Every way in which the tests write a scan into one file that says where it lies.
FORMATS = ["1.nii", "2.nii", "1.nii.gz", "2.nii.gz", "raw.nrrd", "gzip.nrrd", "raw.mha", "zlib.mha"]
#: The same with the voxels in a file beside it.
DETACHED = ["1.hdr", "2.hdr", "raw.nhdr", "gzip.nhdr", "raw.mhd", "zlib.mhd"]
#: Every way that says nothing of where the scan lies.
ARRAYS = [
    *("analyze.hdr", "c.npy", "fortran.npy", "stored.npz", "zipped.npz", "fortran.npz", "raw.h5", "gzip.hdf5"),
    *("raw.tif", "zlib.tiff", "2.zarr", "3.zarr"),
]

_NIFTI = {"1.hdr": nib.Nifti1Pair, "2.hdr": nib.Nifti2Pair, "analyze.hdr": nib.AnalyzeImage}


def noise(shape: tuple[int, ...] = (7, 11, 13), dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
    """Write ``(..., D, H, W)``. Before its first dot the name says which NIfTI, how the data is packed, which Zarr."""
    kind = path.name.partition(".")[0]
    suffix = path.suffix.lower()
    if ".nii" in path.name or suffix == ".hdr":
        image_class = _NIFTI.get(path.name, nib.Nifti2Image if kind == "2" else nib.Nifti1Image)
        place = None if kind == "analyze" else RAS_TO_LPS @ affine @ REVERSED
        nib.save(image_class(array.T, place, dtype=array.dtype), path)
    elif path.name in ARRAYS:
        _save_array(path, kind, suffix, array)
    else:
        sitk.WriteImage(itk_image(array, affine), str(path), useCompression=kind in ("gzip", "zlib"))
    return path


def itk_image(array: np.ndarray, affine: np.ndarray = OBLIQUE) -> sitk.Image:
    """The image of ITK; beyond three axes without a place."""
    image = sitk.GetImageFromArray(array, isVector=False)
    if array.ndim == 3:
        axes = (affine @ REVERSED)[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((axes / spacing).ravel().tolist())
        image.SetOrigin(affine[:3, 3].tolist())
    return image


def _save_array(path: Path, kind: str, suffix: str, array: np.ndarray) -> None:
    array = np.asfortranarray(array) if kind == "fortran" else array
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        (np.savez if kind == "stored" else np.savez_compressed)(path, scan=array)
    elif suffix in (".h5", ".hdf5"):
        with h5py.File(path, "w") as file:
            file.create_dataset("scan", data=array, compression="gzip" if kind == "gzip" else None)
    elif suffix == ".zarr":
        zarr.create_array(path, data=array, zarr_format=int(kind), chunks=tuple(-(-n // 3) for n in array.shape))
    else:
        tifffile.imwrite(path, array, photometric="minisblack", compression="zlib" if kind == "zlib" else None)


def write_npz(path: Path, name: str, header: dict[str, Any], content: bytes = b"", method: int = 0) -> Path:
    """Write an .npz by hand: one array, whatever its header says."""
    start = io.BytesIO()
    np.lib.format.write_array_header_1_0(start, header)
    with ZipFile(path, "w", method) as archive:
        archive.writestr(f"{name}.npy", start.getvalue() + content)
    return path

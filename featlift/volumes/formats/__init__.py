"""The file formats that are read, each in a module of its own, and the table that finds one by suffix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featlift.remote import Remote
from featlift.volumes.formats.hdf5 import open_hdf5
from featlift.volumes.formats.metaimage import files_of_metaimage, open_metaimage
from featlift.volumes.formats.nifti import image_of, open_header, open_nifti
from featlift.volumes.formats.nrrd import files_of_nrrd, open_nrrd
from featlift.volumes.formats.numpy_files import open_npy, open_npz
from featlift.volumes.formats.tiff import open_tiff
from featlift.volumes.formats.voxels import beside
from featlift.volumes.formats.zarr_arrays import open_zarr
from featlift.volumes.image import Image


def _itself(path: Path) -> list[Path]:
    return [path]


@dataclass(frozen=True)
class Format:
    """How files of one kind are read.

    Attributes:
        open: reads the header; the key names an array in files that hold several.
        files: every file that belongs to one, for its identity.
        has_arrays: whether a key chooses one of several arrays.
    """

    open: Callable[[Path, str | None], Image]
    files: Callable[[Path], list[Path]] = _itself
    has_arrays: bool = False


def _with_image(path: Path) -> list[Path]:
    return [path, beside(path, image_of(path).name)]


def _below(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


FORMATS: dict[str, Format] = {
    ".nii": Format(open_nifti),
    ".nii.gz": Format(open_nifti),
    ".hdr": Format(open_header, _with_image),
    ".nrrd": Format(open_nrrd),
    ".nhdr": Format(open_nrrd, files_of_nrrd),
    ".mha": Format(open_metaimage),
    ".mhd": Format(open_metaimage, files_of_metaimage),
    ".npy": Format(open_npy),
    ".npz": Format(open_npz, has_arrays=True),
    ".h5": Format(open_hdf5, has_arrays=True),
    ".hdf5": Format(open_hdf5, has_arrays=True),
    ".hdf": Format(open_hdf5, has_arrays=True),
    ".tif": Format(open_tiff),
    ".tiff": Format(open_tiff),
    ".zarr": Format(open_zarr, _below, has_arrays=True),
}


def suffix_of(path: Path | Remote) -> str | None:
    """The suffix by which the format of a file is known, or None."""
    name = path.name.lower()
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)

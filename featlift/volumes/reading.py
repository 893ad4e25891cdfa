"""`read`: one file to one `Volume`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlift.errors import InputError, VolumeError
from featlift.volumes.itk import read_itk
from featlift.volumes.nifti import read_nifti
from featlift.volumes.volume import Affine, Volume

#: Volumes of more voxels are refused before memory is asked for: 2000 slices of 1024 x 1024.
MAX_VOXELS = 2000 * 1024 * 1024

_Reader = Callable[[Path, int], tuple[NDArray[np.float32], Affine | None]]

READERS: dict[str, _Reader] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".nrrd": read_itk,
    ".mha": read_itk,
}


def suffix_of(path: Path) -> str | None:
    """The suffix by which `read` knows the format, or None."""
    name = path.name.lower()
    return next((suffix for suffix in READERS if name.endswith(suffix)), None)


def read(path: str | Path, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read a NIfTI, NRRD or MHA file.

    Args:
        path: the file.
        max_voxels: refuse larger volumes before allocating.

    Returns:
        The volume with axes in the order of the file: its fastest axis last.

    Raises:
        InputError: no such file.
        VolumeError: not a readable file, or not one 3D volume of one value a voxel.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    suffix = suffix_of(path)
    if suffix is None:
        raise VolumeError(f"{path.name}: not one of the formats read here ({', '.join(READERS)})")
    try:
        array, affine = READERS[suffix](path, max_voxels)
        _check(array, affine)
    except VolumeError as error:
        raise VolumeError(f"{path.name}: {error}") from error
    except PermissionError as error:
        raise VolumeError(f"{path.name}: no permission to read it") from error
    except MemoryError as error:
        raise VolumeError(f"{path.name}: too large for the memory of this machine") from error
    return Volume(array, affine, source=identity(path))


def identity(path: Path) -> dict[str, int | str]:
    """Size and SHA-256 of a file, by which a later run knows it again."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _check(array: NDArray[np.float32], affine: Affine | None) -> None:
    shape = " x ".join(map(str, array.shape))
    if array.ndim == 2 or (array.ndim == 3 and 1 in array.shape):
        raise VolumeError(f"a single image ({shape}), not a volume: stack its slices into one file")
    if array.ndim != 3:
        raise VolumeError(f"{array.ndim} dimensions ({shape}): split it into 3D volumes")
    if affine is not None and not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12):
        raise VolumeError("its affine is not invertible: correct the header (sform, qform, spacing)")

"""`read`: one file to one `Volume`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG

import numpy as np
from numpy.typing import NDArray

from featlift.checksums import sha256_of_file
from featlift.errors import InputError, VolumeError
from featlift.volumes.mha import read_mha
from featlift.volumes.nifti import read_nifti
from featlift.volumes.nrrd import read_nrrd
from featlift.volumes.volume import Affine, Volume

#: Volumes of more voxels are refused before memory is asked for: 2000 slices of 1024 x 1024.
MAX_VOXELS = 2000 * 1024 * 1024

_WORST_CONDITION = 1e6  # of an affine: voxels a thousand times longer than wide, and as much for shear

_Reader = Callable[[Path, int], tuple[NDArray[np.float32], Affine | None]]

READERS: dict[str, _Reader] = {
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".nrrd": read_nrrd,
    ".mha": read_mha,
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
    suffix = suffix_of(path)
    try:
        if not S_ISREG(path.stat().st_mode):
            raise VolumeError("not a file: give the scans of a folder one by one")
        if suffix is None:
            raise VolumeError(f"not one of the formats read here ({', '.join(READERS)})")
        source = identity(path)  # before the voxels: a file replaced meanwhile is then seen as changed
        with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels and affines are refused later
            array, affine = READERS[suffix](path, max_voxels)
        _check(affine)
    except VolumeError as error:
        raise VolumeError(f"{path.name}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise VolumeError(f"{path.name}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise VolumeError(f"{path.name}: too large for the memory of this machine") from error
    return Volume(array, affine, source=source)


def identity(path: Path) -> dict[str, int | str]:
    """Size, time and SHA-256 of a file, by which a later run knows it again."""
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_of_file(path)}


def _check(affine: Affine | None) -> None:
    if affine is not None and not (np.isfinite(affine).all() and np.linalg.cond(affine[:3, :3]) < _WORST_CONDITION):
        raise VolumeError("its affine is not invertible: correct the header (sform, qform, spacing)")

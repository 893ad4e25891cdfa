"""NIfTI files, their header through nibabel."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.decoding import Codec, decoded
from featlift.volumes.volume import Affine
from featlift.volumes.voxels import first_bytes, parsing, read_voxels, volume_shape

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # (d, h, w) -> (i, j, k): NIfTI's first axis is the fastest
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # by code: metre, millimetre, micrometre
_NIFTI1_BYTES, _NIFTI2_BYTES = 348, 540
_SILENT = logging.Logger("featlift.nifti", logging.CRITICAL + 1)


def read_nifti(path: Path, max_voxels: int) -> tuple[NDArray[np.float32], Affine | None]:
    """Read a NIfTI-1 or NIfTI-2 file, gzipped or not.

    Returns:
        ``(D, H, W)`` and its affine to LPS millimetres, None if its sform and qform codes both say "unknown".
    """
    with path.open("rb") as file:
        codec: Codec = "gzip" if file.read(2) == b"\x1f\x8b" else "raw"
        file.seek(0)
        with decoded(file, codec) as stream:
            start = stream.read(_NIFTI2_BYTES)
        if codec == "raw" and path.name.lower().endswith(".gz"):
            raise VolumeError(f"named .gz but not gzipped ({first_bytes(start)})")
        header = _header(start)
        with parsing("NIfTI"):
            header.check_fix(_SILENT)  # a qfac of 0, a negative spacing, ...
            dtype = _checked(header.get_data_dtype())
            shape = volume_shape(tuple(int(n) for n in header.get_data_shape()[::-1]), max_voxels)
            skip = max(header.get_data_offset(), header.single_vox_offset)
            slope, inter = header.get_slope_inter()
            affine = _affine(header)
        file.seek(0)
        voxels = read_voxels(file, shape, dtype, codec, skip)
    return _scaled(voxels, slope, inter), affine


def _header(start: bytes) -> Any:
    from nibabel import Nifti1Header, Nifti2Header

    # the first number of a NIfTI file is the length of its header
    is_nifti2 = start[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
    kind: Any
    kind, length = (Nifti2Header, _NIFTI2_BYTES) if is_nifti2 else (Nifti1Header, _NIFTI1_BYTES)
    try:
        header = kind(start[:length], check=False)
        is_single_file = bytes(header["magic"].item())[:2] == b"n+"
    except Exception as error:  # nibabel raises many kinds on foreign bytes
        raise VolumeError(f"not a NIfTI file ({first_bytes(start)})") from error
    if not is_single_file:
        raise VolumeError(f"not a NIfTI file in one piece ({first_bytes(start)})")
    return header


def _checked(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.names is not None:
        raise VolumeError(f"colour voxels ({'/'.join(dtype.names)}): convert it to one value a voxel")
    if dtype.kind == "c":
        raise VolumeError("complex voxels: give magnitude or phase")
    return dtype


def _scaled(voxels: NDArray[Any], slope: float | None, inter: float | None) -> NDArray[np.float32]:
    if slope is None or inter is None:
        return voxels.astype(np.float32)
    values = voxels.astype(np.result_type(voxels, np.float32))  # float64 where float32 would round
    values *= slope
    values += inter
    return values.astype(np.float32, copy=False)


def _affine(header: Any) -> Affine | None:
    if not (header["sform_code"] or header["qform_code"]):
        return None
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    return np.asarray(_RAS_TO_LPS @ np.diag([unit, unit, unit, 1.0]) @ header.get_best_affine() @ _REVERSED)

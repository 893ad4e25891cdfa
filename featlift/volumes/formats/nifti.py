"""NIfTI and Analyze 7.5 files, their headers through nibabel."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.formats.decoding import Codec, decoded
from featlift.volumes.formats.voxels import beside, first_bytes, image_of_voxels, numbers, parsing
from featlift.volumes.image import Image
from featlift.volumes.volume import Affine, lps_ras

_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # by code: metre, millimetre, micrometre
_NIFTI1_BYTES, _NIFTI2_BYTES = 348, 540
_NIFTI2_STARTS = (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")  # the first number is the length of the header
_SILENT = logging.Logger("featlift.nifti", logging.CRITICAL + 1)


def open_nifti(path: Path, key: str | None = None) -> Image:
    """Open a NIfTI-1 or NIfTI-2 file, gzipped or not.

    The affine is None if sform and qform codes both say "unknown".
    """
    with path.open("rb") as file:
        codec: Codec = "gzip" if file.read(2) == b"\x1f\x8b" else "raw"
        file.seek(0)
        with decoded(file, codec) as stream:
            start = stream.read(_NIFTI2_BYTES)
    if codec == "raw" and path.name.lower().endswith(".gz"):
        raise VolumeError(f"named .gz but not gzipped ({first_bytes(start)})")
    header = _header(start)
    if bytes(header["magic"].item())[:2] != b"n+":
        raise VolumeError(f"not a NIfTI file in one piece ({first_bytes(start)})")
    return _image(header, path, codec, header.single_vox_offset)


def open_header(path: Path, key: str | None = None) -> Image:
    """Open the .hdr of a NIfTI pair or of Analyze 7.5, its voxels in the .img beside it.

    Analyze does not say which side of the patient is which: its affine is None.
    """
    from nibabel import AnalyzeHeader

    start = path.read_bytes()[:_NIFTI2_BYTES]
    voxels = beside(path, image_of(path).name)
    if start[344:347] == b"ni1" or start[:4] in _NIFTI2_STARTS:
        return _image(_header(start), voxels, "raw", 0)
    if start[:4] not in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c"):
        raise VolumeError(f"neither a NIfTI nor an Analyze header ({first_bytes(start)})")
    with parsing("Analyze"):
        return _image(AnalyzeHeader(start[:_NIFTI1_BYTES], check=False), voxels, "raw", 0)


def image_of(path: Path) -> Path:
    """The .img of a .hdr."""
    return path.with_suffix(".IMG" if path.suffix == ".HDR" else ".img")


def _header(start: bytes) -> Any:
    from nibabel import Nifti1Header, Nifti2Header

    kind: Any
    kind, length = (Nifti2Header, _NIFTI2_BYTES) if start[:4] in _NIFTI2_STARTS else (Nifti1Header, _NIFTI1_BYTES)
    try:
        return kind(start[:length], check=False)
    except Exception as error:  # nibabel raises many kinds on foreign bytes
        raise VolumeError(f"not a NIfTI file ({first_bytes(start)})") from error


def _image(header: Any, voxels: Path, codec: Codec, least_offset: int) -> Image:
    with parsing("NIfTI"):
        header.check_fix(_SILENT)  # a qfac of 0, a negative spacing, ...
        dtype = numbers(header.get_data_dtype())
        shape = tuple(int(n) for n in header.get_data_shape()[::-1])
        offset = max(int(header.get_data_offset()), least_offset)
        slope, inter = header.get_slope_inter()
        affine = _affine(header) if "sform_code" in header else None

    return image_of_voxels(
        voxels, shape, dtype, codec, skip=offset, affine=affine, scaled=lambda stored: _scaled(stored, slope, inter)
    )


def _scaled(voxels: NDArray[Any], slope: float | None, inter: float | None) -> NDArray[Any]:
    if slope is None or inter is None or (slope, inter) == (1, 0):
        return voxels
    values = voxels.astype(np.result_type(voxels, np.float32))  # float64 where float32 would round
    values *= slope
    values += inter
    return values.astype(np.float32, copy=False)


def _affine(header: Any) -> Affine | None:
    if not (header["sform_code"] or header["qform_code"]):
        return None
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    return lps_ras(np.diag([unit, unit, unit, 1.0]) @ header.get_best_affine())

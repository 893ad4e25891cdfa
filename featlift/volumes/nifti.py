"""NIfTI files, through nibabel (ITK refuses affines that are not orthonormal)."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.volume import Affine

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # (d, h, w) -> (i, j, k): nibabel's first axis is the fastest
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_HEADER = 544  # NIfTI-2 needs 540 bytes, NIfTI-1 348


def read_nifti(path: Path, max_voxels: int) -> tuple[NDArray[np.float32], Affine | None]:
    """Read a NIfTI-1 or NIfTI-2 file, gzipped or not.

    The whole file is decoded at once: its checksum is only known at the end, and reading part of a gzip stream costs as
    much as reading all before it.

    Returns:
        ``(D, H, W)`` and its affine to LPS millimetres.
    """
    from nibabel import Nifti1Image, Nifti2Image

    start = _decode(path, _HEADER)
    # the first number of a NIfTI file is the length of its header
    is_nifti2 = start[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
    image_class, header_bytes = (Nifti2Image, 540) if is_nifti2 else (Nifti1Image, 348)
    try:
        header = image_class.header_class(start[:header_bytes], check=False)
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        needed = int(header["vox_offset"]) + math.prod(shape) * dtype.itemsize
        is_nifti = bytes(header["magic"].item())[:2] == b"n+"
    except Exception as error:  # nibabel raises many kinds on foreign bytes
        raise VolumeError(f"not a NIfTI file ({_first_bytes(start)})") from error
    if not is_nifti:
        raise VolumeError(f"not a single-file NIfTI ({_first_bytes(start)})")
    _check_kind(shape, dtype, max_voxels)
    content = _decode(path, needed)
    if len(content) < needed:
        raise VolumeError(f"truncated: {len(content)} bytes where its header promises {needed}; copy it again")
    try:
        image: Any = image_class.from_bytes(content)
        array = image.get_fdata(dtype=np.float32, caching="unchanged")
    except Exception as error:
        raise VolumeError(f"damaged NIfTI header ({error})") from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    unit = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    affine = _RAS_TO_LPS @ np.diag([unit, unit, unit, 1.0]) @ image.affine @ _REVERSED
    return np.ascontiguousarray(array.T), affine


def _check_kind(shape: tuple[int, ...], dtype: np.dtype[Any], max_voxels: int) -> None:
    if dtype.names is not None:
        raise VolumeError(f"colour voxels ({'/'.join(dtype.names)}): convert it to one value a voxel")
    if dtype.kind == "c":
        raise VolumeError("complex voxels: give magnitude or phase")
    if any(n < 1 for n in shape):
        raise VolumeError(f"an axis without voxels ({' x '.join(map(str, shape))})")
    if math.prod(shape) > max_voxels:
        raise VolumeError(f"its header declares {math.prod(shape):,} voxels, more than the {max_voxels:,} allowed")


def _decode(path: Path, size: int) -> bytes:
    """The first `size` bytes of the file, gunzipped; a stream that ends there is checked against its checksum."""
    from isal import igzip, isal_zlib

    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not is_gzip:
            content = file.read(size)
            if path.name.lower().endswith(".gz"):
                raise VolumeError(f"named .gz but not gzipped ({_first_bytes(content)})")
            return content
        try:
            stream = igzip.IGzipFile(fileobj=file, mode="rb")
            content = stream.read(size)
            if size > _HEADER:
                stream.read(_HEADER)  # the checksum comes after the last byte
        except (EOFError, OSError, zlib.error, isal_zlib.error) as error:
            raise VolumeError(f"broken gzip stream ({error}): copy it again") from error
        return content


def _first_bytes(content: bytes) -> str:
    return f"it starts with {content[:8]!r}" if content else "it is empty"

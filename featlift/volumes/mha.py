"""MHA files: MetaImages with their data inside.

Not through ITK, which ends the whole process on some damaged headers, hands out memory as it finds it for damaged data,
and writes to standard error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.decoding import Codec
from featlift.volumes.volume import Affine
from featlift.volumes.voxels import MILLIMETRES, header_lines, parsing, read_voxels, volume_shape

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # on every system
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_mha(path: Path, max_voxels: int) -> tuple[NDArray[np.float32], Affine | None]:
    """Read a MHA file.

    Returns:
        ``(D, H, W)`` and its affine to LPS millimetres, None if the file does not place it in a patient.
    """
    with path.open("rb") as file:
        fields = _fields(file)
        with parsing("MHA"):
            sizes = tuple(int(size) for size in fields["DimSize"].split())
            shape = volume_shape(sizes[::-1], max_voxels)
            affine = _affine(fields, len(sizes))
            dtype, codec = _encoding(fields)
        return read_voxels(file, shape, dtype, codec).astype(np.float32), affine


def _fields(file: BinaryIO) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in header_lines(file):
        field = re.fullmatch(r"(\w+)\s*[=:]\s*(.*)", line)
        if not field:
            raise VolumeError(f"not a MHA file (a line of its header is {line[:40]!r})")
        fields[field[1]] = field[2]
        if field[1] == "ElementDataFile":
            break
    if fields.get("ElementDataFile", "").upper() != "LOCAL":
        raise VolumeError("not a MHA file with its data inside (ElementDataFile = LOCAL)")
    return fields


def _encoding(fields: dict[str, str]) -> tuple[np.dtype[np.generic], Codec]:
    if (channels := int(fields.get("ElementNumberOfChannels", 1))) != 1:
        raise VolumeError(f"{channels} values a voxel: convert it to one value a voxel")
    if not _is_true(fields.get("BinaryData", "True")) or int(fields.get("HeaderSize", 0)):
        raise VolumeError("data that is text, or not right behind the header: save it as binary data")
    if fields["ElementType"] not in _TYPES:
        raise VolumeError(f"voxels of type {fields['ElementType'][:40]}: convert them to numbers")
    msb = fields.get("ElementByteOrderMSB", fields.get("BinaryDataByteOrderMSB", "False"))
    dtype = np.dtype((">" if _is_true(msb) else "<") + _TYPES[fields["ElementType"]])
    return dtype, "zlib" if _is_true(fields.get("CompressedData", "False")) else "raw"


def _affine(fields: dict[str, str], axes: int) -> Affine | None:
    spacing = _numbers(fields, "ElementSpacing", "ElementSize")
    origin = _numbers(fields, "Offset", "Position", "Origin")
    matrix = _numbers(fields, "TransformMatrix", "Orientation", "Rotation")
    if spacing is None and origin is None and matrix is None:
        return None
    directions = np.eye(axes) if matrix is None else matrix.reshape(axes, axes)  # a row for each axis
    scaled = directions if spacing is None else directions * spacing[:axes, None]
    affine = np.eye(4)
    affine[:3, :3] = scaled[2::-1, :3].T
    affine[:3, 3] = 0 if origin is None else origin[:3]
    affine[:3] *= MILLIMETRES.get(fields.get("DistanceUnits", "mm"), 1.0)
    return affine


def _numbers(fields: dict[str, str], *names: str) -> NDArray[np.float64] | None:
    """The numbers of the first of these fields that is there: they are names of one thing."""
    text = next((fields[name] for name in names if name in fields), None)
    return None if text is None else np.array([float(number) for number in text.split()])


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")

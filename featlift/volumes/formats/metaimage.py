"""MetaImage files, their voxels inside (.mha) or beside them (.mhd).

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
from featlift.volumes.formats.decoding import Codec
from featlift.volumes.formats.voxels import (
    MILLIMETRES,
    beside,
    frames_and_shape,
    header_lines,
    image_of_voxels,
    parsing,
)
from featlift.volumes.image import Image
from featlift.volumes.volume import Affine

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


def open_metaimage(path: Path, key: str | None = None) -> Image:
    """Open a MetaImage. The affine is None if the file does not place it in a patient."""
    with path.open("rb") as file:
        fields = _fields(file)
        header_bytes = file.tell()
    with parsing("MetaImage"):
        sizes = tuple(int(size) for size in fields["DimSize"].split())
        frames_and_shape(sizes[::-1])  # before the affine, which has no meaning for a single image
        affine = _affine(fields, len(sizes))
        if len(sizes) != int(fields["NDims"]):
            raise ValueError(f"{len(sizes)} sizes of {fields['NDims']} axes")
        dtype, codec = _encoding(fields)
    voxels = _data_file(path, fields)
    return image_of_voxels(
        voxels, sizes[::-1], dtype, codec, start=header_bytes if voxels == path else 0, affine=affine
    )


def files_of_metaimage(path: Path) -> list[Path]:
    """The header and, if it is not inside, the file of the voxels."""
    with path.open("rb") as file:
        return list(dict.fromkeys([path, _data_file(path, _fields(file))]))


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    name = fields["ElementDataFile"]
    if name.upper() == "LOCAL":
        return path
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise VolumeError("its voxels are in several files: save header and voxels as one file")
    return beside(path, name)


def _fields(file: BinaryIO) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in header_lines(file):
        field = re.fullmatch(r"(\w+)\s*[=:]\s*([\t -\xff]*)", line)  # without control characters
        if not field:
            raise VolumeError(f"not a MetaImage (a line of its header is {line[:40]!r})")
        fields[field[1]] = field[2]
        if field[1] == "ElementDataFile":
            break
    if "ElementDataFile" not in fields:
        raise VolumeError("not a MetaImage: its header does not say where the voxels are (ElementDataFile)")
    return fields


def _encoding(fields: dict[str, str]) -> tuple[np.dtype[np.generic], Codec]:
    if (channels := int(fields.get("ElementNumberOfChannels", 1))) != 1:
        raise VolumeError(f"{channels} values a voxel: convert it to one value a voxel")
    if not _is_true(fields.get("BinaryData", "True")) or int(fields.get("HeaderSize", 0)):
        raise VolumeError("data that is text, or not right behind the header: save it as binary data")
    if fields["ElementType"] not in _TYPES:
        raise VolumeError(f"voxels of type {fields['ElementType'][:40]!r}: convert them to numbers")
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

"""NRRD files, with their data inside.

Not through ITK, which does not notice damage to gzipped data and makes up a geometry where the file has none.
"""

from __future__ import annotations

import re
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.decoding import Codec
from featlift.volumes.volume import Affine
from featlift.volumes.voxels import MILLIMETRES, first_bytes, header_lines, parsing, read_voxels, volume_shape

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_ENDIAN = {"little": "<", "big": ">"}
_CODECS: dict[str, Codec] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}


def read_nrrd(path: Path, max_voxels: int) -> tuple[NDArray[np.float32], Affine | None]:
    """Read a NRRD file.

    Returns:
        ``(D, H, W)`` and its affine to LPS millimetres, None if the file does not place it in a patient.
    """
    with path.open("rb") as file:
        fields = _fields(file)
        with parsing("NRRD"):
            sizes, directions = _axes(fields)
            shape = volume_shape(sizes[::-1], max_voxels)
            affine = _affine(fields, directions)
            dtype, codec = _encoding(fields)
        return read_voxels(file, shape, dtype, codec).astype(np.float32), affine


def _fields(file: BinaryIO) -> dict[str, str]:
    start = file.read(8)
    if not start.startswith(b"NRRD"):
        raise VolumeError(f"not a NRRD file ({first_bytes(start)})")
    fields = {}
    for line in takewhile(bool, islice(header_lines(file), 1, None)):  # from the line after NRRD000X to an empty one
        name, _, value = line.partition(":")
        if not value.startswith("="):  # key:=value, which is the user's
            fields[name.lower()] = value.strip()
    if "data file" in fields or "datafile" in fields:
        raise VolumeError("its data is in another file: save both as one .nrrd")
    return fields


def _encoding(fields: dict[str, str]) -> tuple[np.dtype[Any], Codec]:
    code = next((code for code, names in _TYPES.items() if fields["type"].lower() in names), None)
    if code is None:
        raise VolumeError(f"voxels of type {fields['type']!r}: convert them to numbers")
    encoding = fields["encoding"].lower()
    if encoding not in _CODECS or fields.get("byte skip", "0") != "0" or fields.get("line skip", "0") != "0":
        raise VolumeError(f"data encoded as {encoding!r} or not right behind the header: save it as raw or gzip")
    return np.dtype((_ENDIAN[fields["endian"].lower()] if code[1] != "1" else "") + code), _CODECS[encoding]


def _axes(fields: dict[str, str]) -> tuple[tuple[int, ...], list[list[float]]]:
    """Sizes and directions (no directions: not in space) of the axes that are in space, the fastest first."""
    sizes = [int(size) for size in fields["sizes"].split()]
    directions = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    if not directions:
        return tuple(sizes), []
    for size, direction in zip(sizes, directions, strict=True):
        if direction == "none" and size > 1:
            raise VolumeError(f"{size} values a voxel: convert it to one value a voxel")
    spatial = [(size, _vector(text)) for size, text in zip(sizes, directions, strict=True) if text != "none"]
    return tuple(size for size, _ in spatial), [direction for _, direction in spatial]


def _affine(fields: dict[str, str], directions: list[list[float]]) -> Affine | None:
    to_lps = _TO_LPS.get(fields.get("space", "").lower().removesuffix("-time"))
    if to_lps is None or not directions or "space origin" not in fields:
        return None
    unit = MILLIMETRES.get(fields.get("space units", "").split(" ")[0].strip('"'), 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.array([direction[:3] for direction in directions[2::-1]]).T
    affine[:3, 3] = _vector(fields["space origin"])[:3]
    affine[:3] *= unit * np.array(to_lps)[:, None]
    return affine


def _vector(text: str) -> list[float]:
    return [float(number) for number in text.strip("()").split(",")]

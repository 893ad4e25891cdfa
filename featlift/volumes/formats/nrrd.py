"""NRRD files, their voxels inside (.nrrd) or beside them (.nhdr).

Not through ITK, which does not notice damage to gzipped data and makes up a geometry where the file has none.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from featlift.errors import VolumeError
from featlift.volumes.formats.decoding import Codec
from featlift.volumes.formats.voxels import (
    MILLIMETRES,
    beside,
    first_bytes,
    header_lines,
    image_of_voxels,
    parsing,
)
from featlift.volumes.image import Image
from featlift.volumes.volume import Affine

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
_CONTROL_CHARACTER = r"[\0-\x08\x0a-\x1f]"  # a tab is text
_DIRECTION = r"none|\([^()]*\)"
_PLACES = ("domain", "space", "time", "none", "???")  # kinds of axes along which voxels lie
_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_OTHER_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
_FIELDS = (
    "content", "number", "type", "block size", "dimension", "space", "space dimension", "sizes", "spacings",
    "thicknesses", "axis mins", "axis maxs", "centers", "centerings", "labels", "units", "kinds", "min", "max",
    "old min", "old max", "endian", "encoding", "line skip", "byte skip", "sample units", "space units",
    "space origin", "space directions", "measurement frame", "data file",
)  # fmt: skip
_SPELLINGS = {spelling: name for name in _FIELDS for spelling in (name, name.replace(" ", ""))}


def open_nrrd(path: Path, key: str | None = None) -> Image:
    """Open a NRRD file. The affine is None if the file does not place it in a patient."""
    with path.open("rb") as file:
        fields = _fields(file)
        header_bytes = file.tell()
    return _image(path, fields, header_bytes)


def open_layers(path: Path) -> Image:
    """Open a NRRD file that may hold several values a voxel, each of which is a frame."""
    with path.open("rb") as file:
        fields = _fields(file)
        header_bytes = file.tell()
    with parsing("NRRD"):
        count, fields = _split_off_values(fields)
    whole = _image(path, fields, header_bytes, count)
    if count == 1:
        return whole
    depth, height, width = whole.shape[0], whole.shape[1], whole.shape[2] // count
    values = cache(lambda: whole.load(0).reshape(depth, height, width, count))
    return Image((depth, height, width), lambda number: values()[..., number], whole.affine, count)


def _image(path: Path, fields: dict[str, str], header_bytes: int, values: int = 1) -> Image:
    """The image of a header; of several values a voxel, which lie beside each other, its rows are longer."""
    with parsing("NRRD"):
        sizes, directions = _axes(fields)
        affine = _affine(fields, directions)
        dtype, codec = _encoding(fields)
    voxels = _data_file(path, fields)
    shape = (*sizes[:0:-1], sizes[0] * values)
    return image_of_voxels(voxels, shape, dtype, codec, start=header_bytes if voxels == path else 0, affine=affine)


def _split_off_values(fields: dict[str, str]) -> tuple[int, dict[str, str]]:
    """How many values a voxel has, by a first axis that is not in space, and the header without that axis."""
    sizes, kinds = fields["sizes"].split(), fields.get("kinds", "").lower().split()
    directions = re.findall(_DIRECTION, fields.get("space directions", ""))
    outside = directions[0] == "none" if directions else bool(kinds) and kinds[0] not in _PLACES
    if not outside or len(sizes) < 4:
        return 1, fields
    rest = {"sizes": sizes[1:], "kinds": kinds[1:], "space directions": directions[1:]}
    text = {name: " ".join(values) for name, values in rest.items() if name in fields}
    return int(sizes[0]), fields | text | {"dimension": str(len(sizes) - 1)}


def files_of_nrrd(path: Path) -> list[Path]:
    """The header and, if it is not inside, the file of the voxels."""
    with path.open("rb") as file:
        return list(dict.fromkeys([path, _data_file(path, _fields(file))]))


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    name = fields.get("data file")
    if name is None:
        return path
    if name.startswith("LIST") or "%" in name:
        raise VolumeError("its voxels are in several files: save header and voxels as one file")
    return beside(path, name)


def _fields(file: BinaryIO) -> dict[str, str]:
    start = file.read(8)
    lines = header_lines(file)
    if not re.fullmatch(rb"NRRD000[1-5]", start) or next(lines, ""):
        raise VolumeError(f"not a NRRD file ({first_bytes(start)})")
    fields: dict[str, str] = {}
    for line in takewhile(bool, lines):  # up to an empty one
        name, _, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):  # a comment; key:=value, which is the user's
            continue
        field, value = _SPELLINGS.get(name.lower()), value.strip()
        if field is None or fields.setdefault(field, value) != value or re.search(_CONTROL_CHARACTER, value):
            raise VolumeError(f"damaged NRRD header: {line[:40]!r} is no field of NRRD, or contradicts another")
    return fields


def _encoding(fields: dict[str, str]) -> tuple[np.dtype[Any], Codec]:
    code = next((code for code, names in _TYPES.items() if fields["type"].lower() in names), None)
    if code is None:
        raise VolumeError(f"voxels of type {fields['type'][:40]!r}: convert them to numbers")
    encoding = fields["encoding"].lower()
    if encoding not in _CODECS or fields.get("byte skip", "0") != "0" or fields.get("line skip", "0") != "0":
        raise VolumeError(f"data encoded as {encoding[:40]!r} or not right behind the header: save it as raw or gzip")
    return np.dtype((_ENDIAN[fields["endian"].lower()] if code[1] != "1" else "") + code), _CODECS[encoding]


def _axes(fields: dict[str, str]) -> tuple[tuple[int, ...], list[list[float]]]:
    """Sizes and directions (no directions: not in space) of the axes, the fastest first.

    A last axis that is not in space counts frames.
    """
    sizes = [int(size) for size in fields["sizes"].split()]
    if len(sizes) != int(fields["dimension"]):
        raise ValueError(f"{len(sizes)} sizes of {fields['dimension']} axes")
    directions = re.findall(_DIRECTION, fields.get("space directions", ""))
    if re.sub(_DIRECTION, "", fields.get("space directions", "")).strip():
        raise ValueError(f"space directions {fields['space directions']!r}")
    if not directions:
        kinds = fields.get("kinds", "").lower().split()
        _refuse_values([size for size, kind in zip(sizes, kinds[:-1], strict=False) if kind not in _PLACES])
        return tuple(sizes), []
    axes = [
        (size, direction) for size, direction in zip(sizes, directions, strict=True) if direction != "none" or size > 1
    ]
    _refuse_values([size for size, direction in axes[:-1] if direction == "none"])
    return tuple(size for size, _ in axes), [_vector(direction) for _, direction in axes if direction != "none"]


def _refuse_values(sizes: list[int]) -> None:
    if any(size > 1 for size in sizes):
        raise VolumeError(f"{max(sizes)} values a voxel: save it with one value a voxel, or the frames one by one")


def _affine(fields: dict[str, str], directions: list[list[float]]) -> Affine | None:
    space = fields.get("space", _OTHER_SPACES[0]).lower().removesuffix("-time")
    to_lps = _TO_LPS.get(space.removesuffix("t"))  # LPST: with time
    if to_lps is None and space not in _OTHER_SPACES:
        raise ValueError(f"space {space!r}")
    if to_lps is None or not directions or "space origin" not in fields:
        return None
    origin = _vector(fields["space origin"])
    if {len(vector) for vector in (origin, *directions)} not in ({3}, {4}):  # the fourth is time
        raise ValueError("vectors that are not of one space")
    unit = MILLIMETRES.get(fields.get("space units", "").split(" ")[0].strip('"'), 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.array([direction[:3] for direction in directions[2::-1]]).T
    affine[:3, 3] = origin[:3]
    affine[:3] *= unit * np.array(to_lps)[:, None]
    return affine


def _vector(text: str) -> list[float]:
    return [float(number) for number in text.strip("()").split(",")]

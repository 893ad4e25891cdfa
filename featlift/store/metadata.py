"""What a store says of itself and of its volumes, checked before it is believed.

A store is read years later, from disks that lose bytes and from people one does not know. So nothing that stands in a
``zarr.json`` is used before it was read here: `RecordedVolume` and `Grid` hold values of the right kind and size, and
whatever else stands there is a `MetadataError`, which the reading API turns into a `DamageError` with case and file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from featlift.errors import StoreError
from featlift.store.layout import METADATA, NAMESPACE, SAVED, sha256_of
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine


class MetadataError(ValueError):
    """Metadata that cannot be believed; the message is the reason alone."""


class DamageError(StoreError):
    """Damage that a reader met.

    Attributes:
        case_id: of the case.
        reason: file and what is wrong with it.
    """

    def __init__(self, case_id: str, reason: str) -> None:
        super().__init__(case_id, reason)
        self.case_id, self.reason = case_id, reason

    def __str__(self) -> str:
        return f"case {self.case_id}: {self.reason}; `featlift verify` finds all damage, and extract again repairs it"


def json_object(content: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        MetadataError: it is none, or nested so deeply that reading it would exhaust the stack.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MetadataError("unreadable") from error
    if not isinstance(document, dict):
        raise MetadataError("holds no object")
    return document


def run_record(content: bytes) -> dict[str, Any]:
    """A run record, of which the fields that featlift reads are of the right kind, or absent.

    Raises:
        MetadataError: it is none.
    """
    record = json_object(content)
    kinds = {"started": str, "seconds": int | float, "volumes": dict, "versions": dict, "failures": dict}
    for name, kind in kinds.items():
        _is(isinstance(record.get(name), kind | None), name)
    return record


def attributes_in(document: Mapping[str, Any]) -> dict[str, Any]:
    """Our attributes of a Zarr group or array.

    Raises:
        MetadataError: it has none.
    """
    attributes = document.get("attributes")
    ours = attributes.get(NAMESPACE) if isinstance(attributes, dict) else None
    if not isinstance(ours, dict):
        raise MetadataError(f"has no attributes of {NAMESPACE}'s")
    return ours


@dataclass(frozen=True)
class RecordedFile:
    """A file of a volume as it was written.

    Attributes:
        bytes: its size.
        sha256: of its content.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class RecordedVolume:
    """What is recorded of a volume.

    Attributes:
        id: of the case.
        shape: (D, H, W) of the stored scan.
        affine: maps indices ``(d, h, w, 1)`` of the scan to LPS millimetres, or None.
        saved: what is kept, of `featlift.store.layout.SAVED`.
        grids: of each layer's dense features, by the path they would have, where they are not kept; otherwise None.
        files: every file of the volume but the group's own metadata, by its key.
        attributes: all of it as it was written, of which the fields that featlift reads are of the right kind.
    """

    id: str
    shape: Shape
    affine: Affine | None
    saved: tuple[str, ...]
    grids: dict[str, Grid] | None
    files: dict[str, RecordedFile]
    attributes: dict[str, Any]

    @classmethod
    def read(cls, content: bytes, case_id: str) -> RecordedVolume:
        """Read the ``zarr.json`` of a volume's group.

        Raises:
            MetadataError: it is not what was written, or of another case.
        """
        document = json_object(content)
        attributes = attributes_in(document)
        recorded = attributes.pop("metadata_sha256", None)
        try:
            is_as_written = sha256_of(document) == recorded
        except (ValueError, RecursionError) as error:  # half a character of UTF-16, or nested too deeply
            raise MetadataError("unreadable") from error
        if not is_as_written:
            raise MetadataError("not what was written")
        volume = cls.of(attributes, _files(attributes.get("keys")))
        _is({"name", "sha256"} <= attributes.get("source", {}).keys(), "source")
        _is("selection" in attributes, "selection")
        if volume.id != case_id:
            raise MetadataError(f"of the case {volume.id}: a folder was renamed, or two were swapped")
        return volume

    @classmethod
    def of(cls, attributes: dict[str, Any], files: dict[str, RecordedFile]) -> RecordedVolume:
        """Check our attributes of a volume.

        Raises:
            MetadataError: a field is missing or of the wrong kind.
        """
        source, selection = (_mapping(attributes, name) for name in ("source", "selection"))
        for name in ("name", "sha256"):
            _is(isinstance(source.get(name, ""), str), f"source {name}")
        for name in ("bytes", "mtime_ns"):
            _is(source.get(name) is None or _is_whole(source[name]), f"source {name}")
        centre = selection.get("centre")
        _is(centre is None or _are_numbers(centre, 3), "selection")
        _is(isinstance(attributes.get("modality", ""), str | None), "modality")
        _is(attributes.get("spacing") is None or _are_numbers(attributes["spacing"], 3, above=0), "spacing")
        windows = attributes.get("windows", [])
        _is(isinstance(windows, list) and all(_are_numbers(window, 2) for window in windows), "windows")
        if _affine(attributes, "affine_read") is not None:
            _shape(attributes, "shape_read")
        saved = attributes.get("saved", list(SAVED))
        _is(isinstance(saved, list) and all(name in SAVED for name in saved), "saved")
        grids = attributes.get("grids")
        _is(grids is None or (isinstance(grids, dict) and "dense" in grids), "grids")
        return cls(
            _text(attributes, "id"),
            _shape(attributes, "shape"),
            _affine(attributes),
            tuple(saved),
            None if grids is None else {str(path): Grid.of(grid) for path, grid in grids.items()},
            files,
            attributes,
        )


@dataclass(frozen=True)
class Grid:
    """Where the cells of a layer lie in the stored scan.

    Attributes:
        layer: absolute index.
        stride: voxels of the scan from one cell to the next along d, h and w.
        offset: (d, h, w) in the scan of the centre of the first cell.
        valid: (d, h, w) of the cells that are scan; those beyond are padding.
        affine: maps indices ``(d, h, w, 1)`` of the cells to LPS millimetres, or None.
        attributes: all of it as it was written.
    """

    layer: int
    stride: Shape
    offset: tuple[float, float, float]
    valid: Shape
    affine: Affine | None
    attributes: dict[str, Any]

    @classmethod
    def of(cls, attributes: object) -> Grid:
        """Check our attributes of a dense array.

        Raises:
            MetadataError: a field is missing or of the wrong kind.
        """
        _is(isinstance(attributes, dict) and bool(attributes), "grid")
        fields = cast(dict[str, Any], attributes)
        _is(_is_whole(fields.get("layer")), "layer")
        _is(_are_numbers(fields.get("offset"), 3), "offset")
        d, h, w = fields["offset"]
        return cls(
            fields["layer"], _shape(fields, "stride"), (d, h, w), _shape(fields, "valid"), _affine(fields), fields
        )


def check_array(shape: tuple[int, ...], itemsize: int, dimensions: tuple[int, ...], recorded: int) -> None:
    """Refuse an array that says it is larger than its files, before memory is asked for. Nothing is compressed.

    Args:
        shape: as its metadata say.
        itemsize: bytes of a value.
        dimensions: numbers of axes that it may have.
        recorded: bytes of all its chunks.

    Raises:
        MetadataError: it cannot have this shape.
    """
    if len(shape) not in dimensions or min(shape, default=0) < 1:
        raise MetadataError(f"its shape cannot be {shape}")
    if math.prod(shape) * itemsize > recorded:
        raise MetadataError(f"its shape is {shape}, but its files hold {recorded:,} bytes")


def _files(keys: object) -> dict[str, RecordedFile]:
    _is(isinstance(keys, dict), "keys")
    files = {}
    for key, about in cast(dict[str, Any], keys).items():
        good = isinstance(about, dict) and _is_whole(about.get("bytes")) and isinstance(about.get("sha256"), str)
        parts = key.split("/")
        _is(good and key != METADATA and all(part and part != ".." and part != "." for part in parts), "keys")
        files[key] = RecordedFile(about["bytes"], about["sha256"])
    return files


def _is(right: bool, field: str) -> None:
    if not right:
        raise MetadataError(f"its {field} cannot be read")


def _text(fields: Mapping[str, Any], name: str) -> str:
    _is(isinstance(fields.get(name), str), name)
    return cast(str, fields[name])


def _mapping(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field that is an object, empty where it is absent, as in memory."""
    value = fields.get(name, {})
    _is(isinstance(value, dict), name)
    return cast(dict[str, Any], value)


def _shape(fields: Mapping[str, Any], name: str) -> Shape:
    sizes = fields.get(name)
    _is(isinstance(sizes, list) and len(sizes) == 3 and all(_is_whole(n) and n > 0 for n in sizes), name)
    depth, height, width = cast(list[int], sizes)
    return depth, height, width


def _affine(fields: Mapping[str, Any], name: str = "affine") -> Affine | None:
    rows = fields.get(name)
    if rows is None:
        return None
    _is(isinstance(rows, list) and len(rows) == 4 and all(_are_numbers(row, 4) for row in rows), name)
    affine = np.array(rows, dtype=np.float64)
    _is(bool(np.linalg.matrix_rank(affine) == 4), name)
    return affine


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _are_numbers(values: object, count: int, above: float = -math.inf) -> bool:
    """Whether it is a list of so many finite numbers, all of them above a bound."""
    if not isinstance(values, list) or len(values) != count:
        return False
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == count and all(math.isfinite(value) and value > above for value in numbers)

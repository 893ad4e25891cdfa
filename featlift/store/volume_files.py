"""The files of a volume: its arrays, and the group's metadata that makes a volume of them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from featlift.atomic_io import fingerprint, keys_below, sync, sync_tree
from featlift.store.arrays import Put, as_float16, as_floats, as_json, write_dense, write_scan, write_small
from featlift.store.case import Case
from featlift.store.case_data import CaseData
from featlift.store.layout import METADATA, NAMESPACE, SAVED, sha256_of
from featlift.store.metadata import RecordedFile, RecordedVolume, json_object
from featlift.store.ome import ome_attributes
from featlift.store.quantised import quantise
from featlift.store.recorded import RecordedFiles

_BUFFER = default_buffer_prototype().buffer

#: By how features are stored: what float32 does not hold either was not computed right.
_REMEDIES = {
    "float16": "store normed features (the default), or give --save-dtype float32",
    "float32": "store normed features (the default), or compute with --precision fp32",
}


def case_in_memory(case: CaseData) -> Case:
    """The case that a store would hold, without a store."""
    contents: dict[str, Buffer] = {}

    def put(key: str, content: bytes | NDArray[np.uint8]) -> None:
        contents[key] = _BUFFER.from_bytes(content) if isinstance(content, bytes) else _BUFFER.from_array_like(content)

    put(METADATA, group_metadata())
    write_case(put, case)
    store = MemoryStore(contents)
    files = {key: RecordedFile(len(value), _sha256_of(key, value)) for key, value in contents.items()}
    return Case(RecordedFiles(store, files, case.id), RecordedVolume.of(_attributes_of(case), files))


def _sha256_of(key: str, value: Buffer) -> str:
    """Of metadata; that of chunks, which may be gigabytes, is for disks that lose bytes."""
    return hashlib.sha256(value.to_bytes()).hexdigest() if key.endswith(METADATA) else ""


def write_case(put: Put, case: CaseData) -> None:
    """Write the arrays of a volume; without the group's own metadata it is not yet a volume."""
    if case.scan is not None:
        scan = as_float16(case.scan, "the scan's intensities", "choose another --intensity")
        write_scan(put, "scan", scan, {NAMESPACE: {"affine": case.attributes.get("affine")}})
    if case.embedding is not None:
        parts = {NAMESPACE: {"parts": case.embedding_parts}}
        write_small(put, "embedding", case.embedding, ("feature",), parts)
    if len(case.layers) > 1:
        put(f"layers/{METADATA}", group_metadata())
    for layer in case.layers:
        if prefix := case.prefix(layer):
            put(f"{prefix}{METADATA}", group_metadata())
        if layer.dense is not None:
            dense = _stored(put, f"{prefix}dense", layer.dense, case.dtype, "dense features", axis=0)
            write_dense(put, f"{prefix}dense", dense, {NAMESPACE: layer.attributes})
        if layer.slice_mean is not None:
            write_small(put, f"{prefix}slice_mean", layer.slice_mean, ("z", "feature"), {})
        if layer.tokens is not None and case.token_names:
            tokens = _stored(put, f"{prefix}tokens", layer.tokens, case.dtype, "global tokens", axis=2)
            names = {NAMESPACE: {"names": list(case.token_names)}}
            write_small(put, f"{prefix}tokens", tokens, ("z", "token", "feature"), names)


def _stored(put: Put, path: str, values: NDArray[Any], dtype: str, what: str, axis: int) -> NDArray[Any]:
    """Values as they are stored; the scale and offset of int8, whose channels are at `axis`, are written beside."""
    values = as_floats(values, dtype, what, _REMEDIES.get(dtype, _REMEDIES["float32"]))
    if dtype != "int8":
        return values
    quantised = quantise(values, axis)
    write_small(put, f"{path}_scale", quantised.scale, ("feature",), {})
    write_small(put, f"{path}_offset", quantised.offset, ("feature",), {})
    return quantised.values


def _attributes_of(case: CaseData) -> dict[str, Any]:
    """Our attributes of a volume; what an array would tell that is not kept is told here."""
    ours = {"id": case.id, **case.attributes}
    if case.saved != SAVED:
        ours["saved"] = list(case.saved)
    if "dense" not in case.saved:
        ours["grids"] = case.grids
    return ours


def commit_metadata(folder: Path, case: CaseData) -> int:
    """Write the group's metadata, which says what belongs to it: the last file of a volume; bytes of the others."""
    sync_tree(folder)
    files = {key: fingerprint(folder / key) for key in keys_below(folder)}
    ours = {**_attributes_of(case), "keys": files}
    grids = case.grids if "dense" in case.saved else {}
    group = json_object(group_metadata())
    group["attributes"] = {NAMESPACE: ours, **ome_attributes(grids)}
    ours["metadata_sha256"] = sha256_of(group)
    (folder / METADATA).write_bytes(as_json(group))
    sync(folder / METADATA)
    sync(folder)
    return sum(int(file["bytes"]) for file in files.values())


@cache
def group_metadata() -> bytes:
    """The ``zarr.json`` of a group that holds nothing of its own."""
    contents: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(contents), zarr_format=3)
    return contents[METADATA].to_bytes()

"""Write a store: volumes appear in it whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

from featlift.atomic_io import as_output_error, fingerprint, keys_below, link_or_copy_tree, sync, sync_tree
from featlift.errors import StoreError
from featlift.names import look_alikes
from featlift.remote import parse_location
from featlift.store.arrays import (
    Put,
    as_float16,
    as_floats,
    as_json,
    put_into,
    write_dense,
    write_scan,
    write_small,
)
from featlift.store.backend import Where
from featlift.store.backends import backend_of
from featlift.store.case import Case
from featlift.store.layout import (
    BASIS,
    DAMAGED,
    FEATURES_VERSION,
    FORMAT,
    METADATA,
    NAMESPACE,
    RUNS,
    SAVED,
    VOLUMES,
    VOLUMES_METADATA,
    Recipe,
    differing_fields,
    sha256_of,
)
from featlift.store.metadata import MetadataError, RecordedFile, RecordedVolume, attributes_in, json_object
from featlift.store.ome import ome_attributes
from featlift.store.quantised import quantise
from featlift.store.reading import check_store, complete_cases, damaged_cases
from featlift.store.recorded import RecordedFiles
from featlift.store.verification import damage_of

_BUFFER = default_buffer_prototype().buffer

#: By how features are stored: what float32 does not hold either was not computed right.
_REMEDIES = {
    "float16": "store normed features (the default), or give --save-dtype float32",
    "float32": "store normed features (the default), or compute with --precision fp32",
}


@dataclass(frozen=True, eq=False)
class LayerData:
    """Features of one layer of one volume; None for what is not kept.

    Attributes:
        index: absolute index of the layer.
        dense: ``(C, d, h, w)``, padding included.
        tokens: ``(d, g, C)``, or ``(1, g, C)`` in mode 3d; g may be 0.
        slice_mean: ``(d, C)`` float32, padding excluded.
        attributes: stride, offset, norm and affine of the dense grid.
    """

    index: int
    dense: NDArray[Any] | None
    tokens: NDArray[Any] | None
    slice_mean: NDArray[np.float32] | None
    attributes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class CaseData:
    """Everything that is stored of one volume; None for what is not kept.

    Attributes:
        id: case id.
        scan: ``(D, H, W)`` or ``(3, D, H, W)``, what the backbone saw, padding excluded.
        layers: shallow to deep; the deepest stands at the top of the group, the others under ``layers/``.
        embedding: ``(E,)`` float32.
        embedding_parts: name of each part of the embedding and its range, such as ``{"cls-mean": [0, 384]}``.
        token_names: names of the g global tokens.
        attributes: source, geometry, padding.
        dtype: that dense features and tokens are stored in: ``float16``, ``float32`` or ``int8``.
    """

    id: str
    scan: NDArray[Any] | None
    layers: list[LayerData]
    embedding: NDArray[np.float32] | None
    embedding_parts: dict[str, list[int]]
    token_names: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float16"

    @property
    def saved(self) -> tuple[str, ...]:
        """What is kept, of `featlift.store.layout.SAVED`."""
        deepest = self.layers[-1]
        values = (self.scan, deepest.dense, deepest.tokens, deepest.slice_mean, self.embedding)
        return tuple(name for name, each in zip(SAVED, values, strict=True) if each is not None)

    @property
    def grids(self) -> dict[str, dict[str, Any]]:
        """The grid of each layer's dense features, by the path that they have or would have."""
        return {f"{_prefix(self, layer)}dense": layer.attributes for layer in self.layers}


class StoreWriter:
    """Adds volumes to a store of one recipe.

    Args:
        path: the store, created if it is missing: a folder or a URL.
        recipe: everything that changes a feature.
        basis: the file of the recipe's ``basis_sha256``, for a store that is created.

    Raises:
        StoreError: something else is there, or a store of another recipe.
        OutputError: the place cannot be written.
    """

    def __init__(self, path: Where, recipe: Recipe, basis: bytes | None = None) -> None:
        self.path = parse_location(path)
        self.recipe = recipe
        self._backend = backend_of(path)
        with as_output_error(self.path):
            if self._backend.is_empty():
                self._backend.create(lambda folder: self._new_store(folder, basis))
            attributes = check_store(path)
            self._check_recipe(attributes)
            self.recipe_sha256: str = attributes["recipe_sha256"]
            self._backend.prepare()
            self._restore_group()

    def publish(self, case: CaseData) -> bool:
        """Write one volume beside the store's volumes and move it in, in one step, in the place of an older one.

        Returns:
            Whether it is this one that stands there: if another job was faster with the same scan, its volume stays.

        Raises:
            VolumeError: a value does not fit float16.
            OutputError: the disk is full or cannot be written.
            RemoteError: an object store cannot be reached just now.
        """

        def write(folder: Path) -> None:
            _write_case(put_into(folder), case)
            _commit_metadata(folder, case)

        return self._publish(case.id, write)

    def adopt(self, folder: Path) -> bool:
        """`publish` a volume of another store of the recipe: hard links where one disk holds both, copies elsewhere."""

        def take_over(staged: Path) -> None:
            link_or_copy_tree(folder, staged)
            sync_tree(staged)

        return self._publish(folder.name, take_over)

    def _publish(self, case_id: str, fill: Callable[[Path], None]) -> bool:
        with as_output_error(self.path):
            is_first = self._backend.publish(case_id, fill, lambda staged: self._is_published(staged, case_id))
            self._forget_damage(case_id)
        return is_first

    def record_run(self, name: str, record: dict[str, Any]) -> None:
        """Keep a run record as ``runs/<name>.json``."""
        with as_output_error(self.path):
            self._backend.write_json(f"{RUNS}/{name}.json", record)

    def remove_if_empty(self) -> None:
        """Remove a store that holds no volume and to which nobody is writing one."""
        if not complete_cases(self.path) and self._backend.is_idle():
            with suppress(OSError):
                self._backend.erase()

    def _new_store(self, folder: Path, basis: bytes | None) -> None:
        ours = {
            "format": FORMAT,
            "features_version": FEATURES_VERSION,
            "recipe": self.recipe,
            "recipe_sha256": sha256_of(self.recipe),
        }
        zarr.create_group(LocalStore(folder), attributes={NAMESPACE: ours})
        zarr.create_group(LocalStore(folder), path=VOLUMES)
        if basis is not None:
            (folder / BASIS).write_bytes(basis)

    def _restore_group(self) -> None:
        """The group of all volumes holds nothing of its own, but without its metadata Zarr sees none of them."""
        try:
            json_object(self._backend.read(VOLUMES_METADATA))
        except (FileNotFoundError, MetadataError):
            self._backend.write(VOLUMES_METADATA, lambda draft: draft.write_bytes(_group_metadata()))

    def _check_recipe(self, attributes: dict[str, Any]) -> None:
        if attributes.get("features_version") != FEATURES_VERSION:
            raise StoreError(
                f"{self.path} holds features of version {attributes.get('features_version')}, this featlift makes "
                f"version {FEATURES_VERSION}, others for the same recipe: use the featlift that made it, or another -o"
            )
        if differences := differing_fields(attributes["recipe"], self.recipe):
            raise StoreError(
                f"{self.path} was made with another recipe: {'; '.join(differences)}. "
                "Give another -o, or --overwrite to erase it"
            )

    def _is_published(self, staged: Path, case_id: str) -> bool:
        """Whether the store holds a sound volume of the same scan already.

        Raises:
            StoreError: the place is that of another case: the disk does not tell their ids apart.
        """
        self._check_place(case_id)
        if case_id in damaged_cases(self.path) or any(damage_of(self.path, case_id, thoroughly=False)):
            return False
        written = RecordedVolume.read((staged / METADATA).read_bytes(), case_id)
        return _scan_of(written) == _scan_of(self._backend.volume(case_id))

    def _check_place(self, case_id: str) -> None:
        try:
            content = self._backend.read(f"{VOLUMES}/{case_id}/{METADATA}")
            holder = str(attributes_in(json_object(content)).get("id"))
        except (OSError, MetadataError):  # nobody's, or damaged: it may be replaced
            return
        if holder != case_id and look_alikes([holder, case_id]):
            raise StoreError(
                f"{case_id}: this disk takes its id for {holder}, which is in the store: rename one of the scans"
            )

    def _forget_damage(self, case_id: str) -> None:
        damaged = damaged_cases(self.path)
        if case_id in damaged:
            del damaged[case_id]
            write_damaged(self.path, damaged)


def _scan_of(volume: RecordedVolume) -> tuple[str, dict[str, Any]]:
    """What a volume was made from."""
    return volume.attributes["source"]["sha256"], volume.attributes["selection"]


def write_damaged(path: Where, damaged: dict[str, list[str]]) -> None:
    """Keep the list of cases that `verify` found damaged, so that the next `extract` makes them again."""
    if damaged:
        backend_of(path).write_json(DAMAGED, damaged)
    else:
        backend_of(path).remove(DAMAGED)


def case_in_memory(case: CaseData) -> Case:
    """The case that a store would hold, without a store."""
    contents: dict[str, Buffer] = {}

    def put(key: str, content: bytes | NDArray[np.uint8]) -> None:
        contents[key] = _BUFFER.from_bytes(content) if isinstance(content, bytes) else _BUFFER.from_array_like(content)

    put(METADATA, _group_metadata())
    _write_case(put, case)
    store = MemoryStore(contents)
    files = {key: RecordedFile(len(value), _sha256_of(key, value)) for key, value in contents.items()}
    return Case(RecordedFiles(store, files, case.id), RecordedVolume.of(_attributes_of(case), files))


def _sha256_of(key: str, value: Buffer) -> str:
    """Of metadata; that of chunks, which may be gigabytes, is for disks that lose bytes."""
    return hashlib.sha256(value.to_bytes()).hexdigest() if key.endswith(METADATA) else ""


def _write_case(put: Put, case: CaseData) -> None:
    """Write the arrays of a volume; without the group's own metadata it is not yet a volume."""
    if case.scan is not None:
        scan = as_float16(case.scan, "the scan's intensities", "choose another --intensity")
        write_scan(put, "scan", scan, {NAMESPACE: {"affine": case.attributes.get("affine")}})
    if case.embedding is not None:
        parts = {NAMESPACE: {"parts": case.embedding_parts}}
        write_small(put, "embedding", case.embedding, ("feature",), parts)
    if len(case.layers) > 1:
        put(f"layers/{METADATA}", _group_metadata())
    for layer in case.layers:
        if prefix := _prefix(case, layer):
            put(f"{prefix}{METADATA}", _group_metadata())
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


def _commit_metadata(folder: Path, case: CaseData) -> None:
    """Write the group's metadata, which says what belongs to it: the last file of a volume."""
    sync_tree(folder)
    ours = {**_attributes_of(case), "keys": {key: fingerprint(folder / key) for key in keys_below(folder)}}
    grids = case.grids if "dense" in case.saved else {}
    group = json_object(_group_metadata())
    group["attributes"] = {NAMESPACE: ours, **ome_attributes(grids)}
    ours["metadata_sha256"] = sha256_of(group)
    (folder / METADATA).write_bytes(as_json(group))
    sync(folder / METADATA)
    sync(folder)


@cache
def _group_metadata() -> bytes:
    """The ``zarr.json`` of a group that holds nothing of its own."""
    contents: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(contents), zarr_format=3)
    return contents[METADATA].to_bytes()


def _prefix(case: CaseData, layer: LayerData) -> str:
    return "" if layer is case.layers[-1] else f"layers/{layer.index}/"

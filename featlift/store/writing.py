"""Write a store: volumes appear in it whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore

from featlift.errors import StoreError
from featlift.remote import located
from featlift.store.arrays import as_float16, write_dense, write_scan, write_small
from featlift.store.case import Case
from featlift.store.durable import as_output_error, fingerprint, keys_below, sync, sync_tree
from featlift.store.layout import (
    DAMAGED,
    FEATURES_VERSION,
    FORMAT,
    METADATA,
    NAMESPACE,
    RUNS,
    VOLUMES,
    Recipe,
    differing_fields,
    metadata_in,
    sha256_of,
)
from featlift.store.ome import ome_attributes
from featlift.store.place import Where, place_of
from featlift.store.reading import check_store, complete_cases, damaged_cases

_REMEDY = "store normed features (the default), or try --precision fp32"


@dataclass(frozen=True, eq=False)
class LayerData:
    """Features of one layer of one volume.

    Attributes:
        index: absolute index of the layer.
        dense: ``(C, d, h, w)``, padding included; stored as float16.
        tokens: ``(d, g, C)``, or ``(1, g, C)`` in mode 3d; g may be 0; stored as float16.
        slice_mean: ``(d, C)`` float32, padding excluded.
        attributes: stride, offset, norm and affine of the dense grid.
    """

    index: int
    dense: NDArray[Any]
    tokens: NDArray[Any]
    slice_mean: NDArray[np.float32]
    attributes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class CaseData:
    """Everything that is stored of one volume.

    Attributes:
        id: case id.
        scan: ``(D, H, W)`` or ``(3, D, H, W)``, what the backbone saw, padding excluded.
        layers: shallow to deep; the deepest stands at the top of the group, the others under ``layers/``.
        embedding: ``(E,)`` float32.
        embedding_parts: name of each part of the embedding and its range, such as ``{"cls-mean": [0, 384]}``.
        token_names: names of the g global tokens.
        attributes: source, geometry, padding.
    """

    id: str
    scan: NDArray[Any]
    layers: list[LayerData]
    embedding: NDArray[np.float32]
    embedding_parts: dict[str, list[int]]
    token_names: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


class StoreWriter:
    """Adds volumes to a store of one recipe.

    Args:
        path: the store, created if it is missing: a folder or a URL.
        recipe: everything that changes a feature.

    Raises:
        StoreError: something else is there, or a store of another recipe.
        OutputError: the place cannot be written.
    """

    def __init__(self, path: Where, recipe: Recipe) -> None:
        self.path = located(path)
        self.recipe = recipe
        self._place = place_of(path)
        with as_output_error(self.path):
            if self._place.is_vacant():
                self._place.create(self._new_store)
            attributes = check_store(path)
            self._check_recipe(attributes)
            self.recipe_sha256: str = attributes["recipe_sha256"]
            self._place.prepare()

    def publish(self, case: CaseData) -> None:
        """Write one volume beside the store's volumes and move it in, in one step, in the place of an older one.

        Raises:
            VolumeError: a value does not fit float16.
            OutputError: the disk is full or cannot be written.
            RemoteError: an object store cannot be reached just now.
        """

        def fill(folder: Path) -> None:
            _write_case(LocalStore(folder), case)
            _commit_metadata(folder, case)

        with as_output_error(self.path):
            self._place.publish(case.id, fill)
            self._forget_damage(case.id)

    def record_run(self, name: str, record: dict[str, Any]) -> None:
        """Keep a run record as ``runs/<name>.json``."""
        with as_output_error(self.path):
            self._place.write_json(f"{RUNS}/{name}.json", record)

    def remove_if_empty(self) -> None:
        """Remove a store that holds no volume and to which nobody is writing one."""
        if not complete_cases(self.path) and self._place.is_idle():
            with suppress(OSError):
                self._place.erase()

    def _new_store(self, folder: Path) -> None:
        ours = {
            "format": FORMAT,
            "features_version": FEATURES_VERSION,
            "recipe": self.recipe,
            "recipe_sha256": sha256_of(self.recipe),
        }
        zarr.create_group(LocalStore(folder), attributes={NAMESPACE: ours})
        zarr.create_group(LocalStore(folder), path=VOLUMES)

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

    def _forget_damage(self, case_id: str) -> None:
        damaged = damaged_cases(self.path)
        if case_id in damaged:
            del damaged[case_id]
            write_damaged(self.path, damaged)


def write_damaged(path: Where, damaged: dict[str, list[str]]) -> None:
    """Keep the list of cases that `verify` found damaged, so that the next `extract` makes them again."""
    if damaged:
        place_of(path).write_json(DAMAGED, damaged)
    else:
        place_of(path).remove(DAMAGED)


def case_in_memory(case: CaseData) -> Case:
    """The case that a store would hold, without a store."""
    store = MemoryStore()
    _write_case(store, case)
    group = zarr.open_group(store)
    group.attrs[NAMESPACE] = {"id": case.id, **case.attributes}
    return Case(group, case.id)


def _write_case(store: Store, case: CaseData) -> None:
    """Write the arrays of a volume; without the group's own metadata it is not yet a volume."""
    scan_attributes = {NAMESPACE: {"affine": case.attributes.get("affine")}}
    write_scan(
        store, "scan", as_float16(case.scan, "the scan's intensities", "choose another --intensity"), scan_attributes
    )
    parts = {NAMESPACE: {"parts": case.embedding_parts}}
    write_small(store, "embedding", case.embedding, ("feature",), parts)
    for layer in case.layers:
        prefix = _prefix(case, layer)
        write_dense(
            store, f"{prefix}dense", as_float16(layer.dense, "dense features", _REMEDY), {NAMESPACE: layer.attributes}
        )
        write_small(store, f"{prefix}slice_mean", layer.slice_mean, ("z", "feature"), {})
        if case.token_names:
            names = {NAMESPACE: {"names": list(case.token_names)}}
            tokens = as_float16(layer.tokens, "global tokens", _REMEDY)
            write_small(store, f"{prefix}tokens", tokens, ("z", "token", "feature"), names)


def _commit_metadata(folder: Path, case: CaseData) -> None:
    """Write the group's metadata, which says what belongs to it: the last file of a volume."""
    (folder / METADATA).unlink()  # zarr makes the groups above an array by itself; this one says "complete"
    sync_tree(folder)
    ours = {"id": case.id, **case.attributes, "keys": {key: fingerprint(folder / key) for key in keys_below(folder)}}
    grids = {f"{_prefix(case, layer)}dense": layer.attributes for layer in case.layers}
    group = zarr.create_group(LocalStore(folder), attributes={NAMESPACE: ours, **ome_attributes(grids)})
    group.attrs[NAMESPACE] = {**ours, "metadata_sha256": sha256_of(_metadata(folder))}
    sync(folder / METADATA)
    sync(folder)


def _metadata(folder: Path) -> dict[str, Any]:
    return metadata_in((folder / METADATA).read_bytes())


def _prefix(case: CaseData, layer: LayerData) -> str:
    return "" if layer is case.layers[-1] else f"layers/{layer.index}/"

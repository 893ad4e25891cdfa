"""Write a store: volumes appear in it whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from featlift.atomic_io import as_output_error, link_or_copy_tree, sync_tree
from featlift.errors import StoreError
from featlift.names import look_alikes
from featlift.remote import parse_location
from featlift.store.arrays import (
    put_into,
)
from featlift.store.backend import Where
from featlift.store.backends import backend_of
from featlift.store.case_data import CaseData
from featlift.store.contents import check_store, complete_cases, damaged_cases
from featlift.store.layout import (
    BASIS,
    DAMAGED,
    FEATURES_VERSION,
    FORMAT,
    METADATA,
    NAMESPACE,
    RUNS,
    VOLUMES,
    VOLUMES_METADATA,
    Recipe,
    differing_fields,
    sha256_of,
)
from featlift.store.metadata import MetadataError, RecordedVolume, attributes_in, json_object
from featlift.store.verification import damage_of
from featlift.store.volume_files import commit_metadata, group_metadata, write_case


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

    def publish(self, case: CaseData) -> int | None:
        """Write one volume beside the store's volumes and move it in, in one step, in the place of an older one.

        Returns:
            Bytes of its arrays; None if another job was faster with the same scan, whose volume stays.

        Raises:
            VolumeError: a value does not fit float16.
            OutputError: the disk is full or cannot be written.
            RemoteError: an object store cannot be reached just now.
        """
        written = 0

        def write(folder: Path) -> None:
            nonlocal written
            write_case(put_into(folder), case)
            written = commit_metadata(folder, case)

        return written if self._publish(case.id, write) else None

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
            self._backend.write(VOLUMES_METADATA, lambda draft: draft.write_bytes(group_metadata()))

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

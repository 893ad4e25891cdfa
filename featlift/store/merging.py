"""`featlift merge`: several stores of one recipe become one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featlift.atomic_io import as_output_error, write_atomically
from featlift.errors import OptionError, StoreError
from featlift.remote import Remote, parse_location
from featlift.store.backend import Where
from featlift.store.case import read_volume
from featlift.store.contents import damaged_cases, is_empty
from featlift.store.index import labels_of, rebuild_index
from featlift.store.layout import (
    BASIS,
    FEATURES_VERSION,
    RUNS,
    STAGING,
    VOLUMES,
    differing_fields,
    sha256_of,
)
from featlift.store.reading import Store, open_store
from featlift.store.verification import Damage, damage_of, damage_of_basis
from featlift.store.writing import StoreWriter


class Merge:
    """A merge of stores, after making sure that it can be done. Nothing is written before `run`.

    Args:
        stores: those to join.
        output: the store to make, or one of the same recipe that is added to: a merge that was stopped goes on.

    Attributes:
        holders: of each case, the stores that hold it, in their order.

    Raises:
        InputError: a store is not there.
        OptionError: no store, or one behind a URL.
        StoreError: recipes, volumes of one case, or labels of one case differ.
    """

    def __init__(self, stores: Sequence[Where], output: Where) -> None:
        self.output = _folder(output)
        self._stores = [open_store(_folder(path)) for path in stores]
        if not self._stores:
            raise OptionError("name the stores to merge")
        there = [] if is_empty(self.output) else [open_store(self.output)]
        self._check_recipes([*self._stores, *there])
        self.holders: dict[str, list[Path]] = {}
        for store in self._stores:
            for case_id in store:
                self.holders.setdefault(case_id, []).append(_folder(store.path))
        self._check_contents([*self._stores, *there])
        self._labels = _joined_labels(self._stores)

    def run(self) -> Iterator[tuple[str, list[Damage]]]:
        """Take each case over in turn, from the first store in which every byte of it is as it was written.

        Yields:
            The id of each case, and what is wrong with it where no store holds it undamaged: it is left out.

        Raises:
            OutputError: the output cannot be written.
        """
        writer = StoreWriter(self.output, self._stores[0].recipe, self._basis())
        for case_id in sorted(self.holders):
            yield case_id, self._take(writer, case_id)
        for store in self._stores:
            for record in sorted((_folder(store.path) / RUNS).glob("*.json")):
                if record.is_file():
                    self._take_record(record)
        rebuild_index(self.output, self._labels or None)

    def _take(self, writer: StoreWriter, case_id: str) -> list[Damage]:
        if case_id not in damaged_cases(self.output) and not any(damage_of(self.output, case_id, thoroughly=False)):
            return []  # taken over before
        found: list[Damage] = []
        for path in self.holders[case_id]:
            damage = list(damage_of(path, case_id, thoroughly=True))
            if not damage:
                writer.adopt(path / VOLUMES / case_id)
                return []
            found += damage
        return found

    def _basis(self) -> bytes | None:
        """The file that features were reduced with, from the first store where it is sound."""
        sound = (_folder(store.path) / BASIS for store in self._stores if damage_of_basis(store.path) is None)
        basis = next(sound, None)
        return basis.read_bytes() if basis is not None and basis.is_file() else None

    def _take_record(self, record: Path) -> None:
        place = self.output / RUNS / record.name
        if not place.exists():
            with as_output_error(self.output):
                write_atomically(place, lambda draft: draft.write_bytes(record.read_bytes()), self.output / STAGING)

    def _check_recipes(self, stores: Sequence[Store]) -> None:
        first = stores[0]
        for store in stores:
            if store.attributes.get("features_version") != FEATURES_VERSION:
                raise StoreError(
                    f"{store.path} holds features of version {store.attributes.get('features_version')}, this featlift "
                    f"makes version {FEATURES_VERSION}: merge with the featlift that made it"
                )
            if differences := differing_fields(first.recipe, store.recipe, str(first.path), str(store.path)):
                raise StoreError(f"different recipes cannot be merged: {'; '.join(differences)}")

    def _check_contents(self, stores: Sequence[Store]) -> None:
        """Refuse two volumes of one case, unless every byte that recipe and scan decide is the same."""
        seen: dict[str, tuple[str, Path]] = {}
        for store in stores:
            folder = _folder(store.path)
            for case_id in store:
                digest = _digest_of(folder, case_id)
                if digest is None:
                    continue  # damaged, which taking it over tells of
                other, where = seen.setdefault(case_id, (digest, folder))
                if other != digest:
                    raise StoreError(
                        f"case {case_id} is another in {folder} than in {where}: of two scans with one id, or made "
                        "on two machines; remove its folder in volumes/ from one of them"
                    )


def _folder(store: Where) -> Path:
    """Where a store is on this machine; raises OptionError of one behind a URL."""
    place = parse_location(store)
    if isinstance(place, Remote):
        raise OptionError(f"{place}: merge joins folders of this machine only; copy the store to one")
    return place


def _digest_of(store: Path, case_id: str) -> str | None:
    """One hash of what a volume holds; when its source was last touched does not count. None if it is damaged."""
    try:
        attributes = read_volume(store, case_id).attributes
    except StoreError:
        return None
    source = {name: value for name, value in attributes["source"].items() if name != "mtime_ns"}
    return sha256_of({**attributes, "source": source})


def _joined_labels(stores: Sequence[Store]) -> dict[str, dict[str, Any]]:
    """What all indexes say of each case.

    Raises:
        StoreError: they contradict each other, or one is missing.
    """
    joined: dict[str, dict[str, Any]] = {}
    for store in stores:
        for case_id, labels in labels_of(store.path).items():
            known = joined.setdefault(case_id, {})
            for name, value in labels.items():
                if known.get(name) is None:
                    known[name] = value
                elif value is not None and repr(value) != repr(known[name]):  # NaN is itself here
                    raise StoreError(
                        f"case {case_id}: {name} is {value} in {store.path} and {known[name]} before it; make them "
                        "equal with `featlift index --labels`"
                    )
    return {case_id: labels for case_id, labels in joined.items() if labels}

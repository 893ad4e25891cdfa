"""Open a store and its cases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from featlift.errors import InputError, StoreError
from featlift.store.case import Case, open_case
from featlift.store.layout import (
    DAMAGED,
    FORMAT,
    METADATA,
    VOLUMES,
    Recipe,
    attributes_of,
    not_kept,
    saved_in,
    sha256_of,
)


def open_store(path: str | Path) -> Store:
    """Open a store for reading.

    Raises:
        InputError: nothing there.
        StoreError: not a featlift store, or one of a later format.
    """
    path = Path(path)
    return Store(path, check_store(path))


def check_store(path: Path) -> dict[str, Any]:
    """Our attributes of the store at `path`, after making sure that it is one we can read."""
    if not path.exists():
        raise InputError(f"{path}: no such store; `featlift extract` makes one")
    try:
        attributes = attributes_of(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not a featlift store: it has no readable {METADATA} of its own") from error
    if "format" not in attributes or not isinstance(attributes.get("recipe"), dict):
        raise StoreError(f"{path} is a Zarr store, but not one of featlift's")
    if not isinstance(attributes["format"], int) or attributes["format"] > FORMAT:
        raise StoreError(f"{path} has format {attributes['format']}, this featlift reads up to {FORMAT}: update it")
    if sha256_of(attributes["recipe"]) != attributes.get("recipe_sha256"):
        raise StoreError(f"{path}: the recipe in its {METADATA} is not the one that was written: the file is damaged")
    return attributes


def is_vacant(path: Path) -> bool:
    """Whether nothing is at `path`, or a folder with nothing in it."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def complete_cases(path: Path) -> list[str]:
    """Ids of the volumes that are complete: those whose group has its metadata, which is written last."""
    folder = path / VOLUMES
    return sorted(case.name for case in folder.iterdir() if (case / METADATA).is_file()) if folder.is_dir() else []


def damaged_cases(path: Path) -> dict[str, list[str]]:
    """Cases that the last `featlift verify` found damaged, and what it found."""
    try:
        found = json.loads((path / DAMAGED).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Store(Mapping[str, Case]):
    """A store opened for reading: a mapping of case ids to cases.

    Attributes:
        path: where it is.
        attributes: our attributes of the store: format, features_version, recipe, recipe_sha256.
    """

    def __init__(self, path: Path, attributes: dict[str, Any]) -> None:
        self.path = path
        self.attributes = attributes
        self._ids = complete_cases(path)

    @property
    def recipe(self) -> Recipe:
        """Everything that decided the features."""
        recipe: Recipe = self.attributes["recipe"]
        return recipe

    def require(self, name: str) -> None:
        """Raise a `StoreError` that says how to get it if the store does not keep ``dense``, ``scan``, ..."""
        saved = saved_in(self.recipe)
        if name not in saved:
            raise not_kept(self.path, name, saved)

    def __getitem__(self, case_id: str) -> Case:
        if case_id not in self._ids:
            raise KeyError(
                f"{self.path} has no case {case_id!r}; it holds {len(self._ids)}, `featlift info` lists them"
            )
        try:
            return open_case(self.path / VOLUMES / case_id)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreError(f"{self.path}: case {case_id} is damaged; `featlift verify` says where") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"<featlift store {self.path}: {len(self)} volumes, {self.recipe['model']} {self.recipe['mode']}>"

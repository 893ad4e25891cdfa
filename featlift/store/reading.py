"""Open a store and its cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

from featlift.counting import number_of
from featlift.errors import InputError, OptionError, RemoteError, StoreError
from featlift.remote import parse_location
from featlift.store.backend import Where
from featlift.store.backends import backend_of
from featlift.store.basis import Basis, basis_of
from featlift.store.case import Case, open_case
from featlift.store.layout import (
    DAMAGED,
    FORMAT,
    METADATA,
    RUNS,
    SAVED,
    Recipe,
    not_kept,
    saved_in,
    sha256_of,
)
from featlift.store.metadata import MetadataError, attributes_in, json_object, run_record


def open_store(path: Where) -> Store:
    """Open a store for reading, at a path or a URL such as ``s3://bucket/features.zarr``.

    Raises:
        InputError: nothing there.
        StoreError: not a featlift store, or one of a later format.
    """
    return Store(path, check_store(path))


def check_store(path: Where) -> dict[str, Any]:
    """Our attributes of the store at `path`, after making sure that it is one we can read."""
    path = parse_location(path)
    place = backend_of(path)
    if not place.exists():
        raise InputError(f"{path}: no such store; `featlift extract` makes one")
    try:
        attributes = attributes_in(json_object(place.read(METADATA)))
    except RemoteError:
        raise
    except (OSError, MetadataError) as error:
        raise StoreError(f"{path} is not a featlift store: it has no readable {METADATA} of its own") from error
    if "format" not in attributes or not isinstance(attributes.get("recipe"), dict):
        raise StoreError(f"{path} is a Zarr store, but not one of featlift's")
    if not isinstance(attributes["format"], int) or attributes["format"] > FORMAT:
        raise StoreError(f"{path} has format {attributes['format']}, this featlift reads up to {FORMAT}: update it")
    recipe = attributes["recipe"]
    if sha256_of(recipe) != attributes.get("recipe_sha256") or not _is_recipe(recipe):
        raise StoreError(f"{path}: the recipe in its {METADATA} is not the one that was written: the file is damaged")
    return attributes


def _is_recipe(recipe: Recipe) -> bool:
    """Whether the fields that readers of a store use are of the right kind."""
    saved, layers = recipe.get("save") or list(SAVED), recipe.get("layers")
    return (
        all(isinstance(recipe.get(name), str) for name in ("model", "mode"))
        and isinstance(layers, list)
        and all(isinstance(index, int) for index in layers)
        and isinstance(saved, list)
        and all(name in SAVED for name in saved)
    )


def is_empty(path: Where) -> bool:
    """Whether nothing is at `path`, or a folder with nothing in it."""
    return backend_of(path).is_empty()


def complete_cases(path: Where) -> list[str]:
    """Ids of the volumes that are complete: those whose group has its metadata, which is written last."""
    return list(backend_of(path).complete())


def damaged_cases(path: Where) -> dict[str, list[str]]:
    """Cases that the last `featlift verify` found damaged, and what it found."""
    try:
        found = json_object(backend_of(path).read(DAMAGED))
    except RemoteError:
        raise
    except (OSError, MetadataError):
        return {}
    return {case_id: list(map(str, what)) for case_id, what in found.items() if isinstance(what, list)}


def run_records(path: Where) -> dict[str, dict[str, Any] | None]:
    """The run records of a store by their keys, the oldest first; None for one that cannot be read."""
    place = backend_of(path)
    records: dict[str, dict[str, Any] | None] = {}
    for name in sorted(place.sizes(RUNS)):
        try:
            records[f"{RUNS}/{name}"] = run_record(place.read(f"{RUNS}/{name}"))
        except RemoteError:
            raise
        except (OSError, MetadataError):
            records[f"{RUNS}/{name}"] = None
    return records


class Store(Mapping[str, Case]):
    """A store opened for reading: a mapping of case ids to cases.

    Attributes:
        path: where it is, a folder or a URL.
        name: the last part of that.
        attributes: our attributes of the store: format, features_version, recipe, recipe_sha256.
    """

    def __init__(self, path: Where, attributes: dict[str, Any]) -> None:
        self.path = parse_location(path)
        self.name = backend_of(path).name
        self.attributes = attributes
        self._ids = dict.fromkeys(complete_cases(path))

    @property
    def recipe(self) -> Recipe:
        """Everything that decided the features."""
        recipe: Recipe = self.attributes["recipe"]
        return recipe

    @cached_property
    def basis(self) -> Basis:
        """The principal components that its dense features were reduced with.

        Raises:
            StoreError: they were not reduced so, or the basis is missing, or not the one that was written.
        """
        return basis_of(self.path, self.recipe)

    def require(self, name: str) -> None:
        """Raise a `StoreError` that says how to get it if the store does not keep ``dense``, ``scan``, ..."""
        saved = saved_in(self.recipe)
        if name not in saved:
            raise not_kept(self.path, name, saved)

    def require_cases(self, ids: Iterable[str]) -> None:
        """Raise an `OptionError` that names the first of these cases that the store does not hold."""
        if unknown := next((case_id for case_id in ids if case_id not in self), None):
            raise OptionError(f"{self.path} has no case {unknown}; `featlift info` lists them")

    def __contains__(self, case_id: object) -> bool:
        return case_id in self._ids  # a mapping's own would open the case

    def __getitem__(self, case_id: str) -> Case:
        if case_id not in self._ids:
            raise KeyError(
                f"{self.path} has no case {case_id!r}; it holds {len(self._ids)}, `featlift info` lists them"
            )
        return open_case(self.path, case_id, partial(getattr, self, "basis"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        held = number_of(len(self), "volume")
        return f"<featlift store {self.path}: {held}, {self.recipe['model']} {self.recipe['mode']}>"

"""What a store says of itself: that it is one, its cases, those that are damaged, its runs."""

from __future__ import annotations

from typing import Any

from featlift.errors import InputError, RemoteError, StoreError
from featlift.remote import parse_location
from featlift.store.backend import Where
from featlift.store.backends import backend_of
from featlift.store.layout import DAMAGED, FORMAT, METADATA, RUNS, SAVED, Recipe, sha256_of
from featlift.store.metadata import MetadataError, attributes_in, json_object, run_record


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

"""Erase a store whose recipe is not the one that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from featlift.atomic_io import as_output_error
from featlift.store.backend import Where
from featlift.store.backends import backend_of
from featlift.store.contents import is_empty
from featlift.store.layout import Recipe, differing_fields
from featlift.store.reading import open_store


@dataclass(frozen=True)
class Erased:
    """What went.

    Attributes:
        volumes: how many.
        bytes: their size.
        differences: fields in which the recipes differed, each with both values.
    """

    volumes: int
    bytes: int
    differences: list[str]


def erase_other(path: Where, recipe: Recipe) -> Erased | None:
    """Erase the store at `path` if it was made with another recipe.

    Raises:
        StoreError: something else is there, which stays.
        OutputError: it cannot be erased.
    """
    if is_empty(path):
        return None
    store = open_store(path)
    differences = differing_fields(store.recipe, recipe)
    if not differences:
        return None
    place = backend_of(path)
    size = sum(place.sizes("").values())
    with as_output_error(place):
        place.erase()
    return Erased(len(store), size, differences)

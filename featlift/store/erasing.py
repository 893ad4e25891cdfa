"""Erase a store whose recipe is not the one that is wanted."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from featlift.store.durable import as_output_error, staging_name
from featlift.store.layout import Recipe, differing_fields
from featlift.store.reading import is_vacant, open_store


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


def erase_other(path: Path, recipe: Recipe) -> Erased | None:
    """Erase the store at `path` if it was made with another recipe.

    Raises:
        StoreError: something else is there, which stays.
        OutputError: it cannot be erased.
    """
    if is_vacant(path):
        return None
    store = open_store(path)
    differences = differing_fields(store.recipe, recipe)
    if not differences:
        return None
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    with as_output_error(path):
        aside = path.with_name(staging_name(f".{path.name}"))
        path.rename(aside)  # at once, so that a stop leaves no half of a store
        shutil.rmtree(aside)
    return Erased(len(store), size, differences)

"""Open a store and its cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from featlift.counting import number_of
from featlift.errors import FeatliftError, OptionError
from featlift.remote import parse_location
from featlift.sample import evenly_spaced
from featlift.store.backend import Where
from featlift.store.backends import backend_of
from featlift.store.basis import Basis, basis_of
from featlift.store.case import Case, open_case
from featlift.store.contents import check_store, complete_cases
from featlift.store.frames import Embeddings, embeddings_of, ids_where, index_frame
from featlift.store.index import current_index
from featlift.store.layout import Recipe, not_kept, saved_in
from featlift.store.showing import recipe_card

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_THUMBNAILS = 6

#: Cases of a store: by their places, by a boolean for each, or by ids.
Chosen = slice | list[str] | list[bool] | NDArray[np.bool_]


def open_store(path: Where) -> Store:
    """Open a store for reading, at a path or a URL such as ``s3://bucket/features.zarr``.

    Raises:
        InputError: nothing there.
        StoreError: not a featlift store, or one of a later format.
    """
    return Store(path, check_store(path))


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

    @overload
    def __getitem__(self, key: str) -> Case: ...
    @overload
    def __getitem__(self, key: Chosen) -> Store: ...
    def __getitem__(self, key: str | Chosen) -> Case | Store:
        """A case by its id; or the same store of fewer cases, by a slice, a boolean mask or ids."""
        if not isinstance(key, str):
            return self._of(_chosen(list(self), key))
        if key not in self._ids:
            raise KeyError(f"{self.path} has no case {key!r}; it holds {len(self._ids)}, `featlift info` lists them")
        return self._case(key)

    def _case(self, case_id: str) -> Case:
        return open_case(self.path, case_id, partial(getattr, self, "basis"))

    def where(self, **columns: object) -> Store:
        """The same store of the cases whose columns in the index have these values, or one of several.

        ``store.where(split="test", site=["A", "B"])``; values are compared as text.

        Raises:
            OptionError: the index has no such column.
        """
        return self._of(ids_where(self._index(), list(self), columns))

    def to_pandas(self, embeddings: bool = False) -> pd.DataFrame:
        """The index with its labels as a data frame, a row a case, by id.

        Args:
            embeddings: with a column for each channel of the embeddings, ``embedding_0`` and so on.

        Raises:
            OptionError: pandas is not installed.
            StoreError: there are no embeddings.
        """
        if embeddings:
            self.require("embedding")
        return index_frame(self._index(), list(self), embeddings)

    def embeddings(self, labels: str | None = None, **columns: object) -> Embeddings:
        """Embeddings as a matrix, with labels: ``X, y, ids = store.embeddings("diagnosis", split="train")``.

        Args:
            labels: the column of the index that they come from. Cases without one are left out.
            columns: of the cases to take, see `where`.

        Raises:
            OptionError: the index has no such column.
            StoreError: there are no embeddings.
        """
        self.require("embedding")
        index = self._index()
        return embeddings_of(index, ids_where(index, list(self), columns), labels)

    def _index(self) -> pa.Table:
        return current_index(self.path)

    def _of(self, ids: Iterable[str]) -> Self:
        taken = copy(self)
        taken._ids = dict.fromkeys(ids)
        return taken

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __enter__(self) -> Self:
        """The store itself: it holds nothing open, so that it needs no closing."""
        return self

    def __exit__(self, *raised: object) -> None: ...

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _repr_html_(self) -> str:
        pictures = []
        for case_id in evenly_spaced(list(self), _THUMBNAILS):
            with suppress(FeatliftError):  # a card is shown all the same
                if (look := self[case_id].look).scan is not None:
                    pictures.append(look.scan_thumbnail())
        return recipe_card(f"featlift store {self.path}", self.recipe, len(self), pictures)

    def __repr__(self) -> str:
        held = number_of(len(self), "volume")
        return f"<featlift store {self.path}: {held}, {self.recipe['model']} {self.recipe['mode']}>"


def _chosen(ids: list[str], key: Chosen) -> list[str]:
    if isinstance(key, slice):
        return ids[key]
    chosen = list(key)
    if all(isinstance(each, str) for each in chosen):
        known = set(ids)
        if unknown := [name for name in chosen if name not in known]:
            raise KeyError(f"no case {unknown[0]!r} here")
        return [str(name) for name in chosen]
    if len(chosen) != len(ids) or not all(isinstance(each, (bool, np.bool_)) for each in chosen):
        raise OptionError(f"{len(chosen)} values for {len(ids)} cases: give ids, a slice, or a boolean for each case")
    return [name for name, wanted in zip(ids, chosen, strict=True) if wanted]

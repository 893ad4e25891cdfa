"""Embeddings in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from featlift.store.principal import Covariance

_FEWEST = 4
_NEIGHBOURS = 15  # of UMAP, its own default
_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Map:
    """Where each case lies.

    Attributes:
        store: whose embeddings.
        name: ``PCA`` or ``UMAP``.
        ids: of the cases.
        places: ``(N, 2)``.
        about: what the axes are.
    """

    store: str
    name: str
    ids: tuple[str, ...]
    places: NDArray[np.float64]
    about: str


def maps_of(store: str, ids: tuple[str, ...], vectors: NDArray[np.float32]) -> list[Map]:
    """The maps of a store's embeddings, brought to unit length as cosine similarity sees them.

    Args:
        store: its name.
        ids: of the cases.
        vectors: ``(N, E)``.

    Returns:
        The principal components, and UMAP if umap-learn is installed; nothing for less than four cases.
    """
    if len(ids) < _FEWEST:
        return []
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    maps = [_pca(store, ids, unit)]
    if find_spec("umap") is not None and len(ids) > _NEIGHBOURS:
        maps.append(_umap(store, ids, unit))
    return maps


def _pca(store: str, ids: tuple[str, ...], unit: NDArray[np.float32]) -> Map:
    covariance = Covariance(unit.shape[1])
    for start in range(0, len(unit), _AT_ONCE):
        covariance.add(unit[start : start + _AT_ONCE])
    basis = covariance.principal(2)
    places = (unit - basis.mean) @ basis.components.T
    kept = f"{100 * (basis.variance_kept or 0):.0f} % of the variance"
    about = f"First two principal components of the embeddings, which keep {kept}."
    return Map(store, "PCA", ids, places.astype(np.float64), about)


def _umap(store: str, ids: tuple[str, ...], unit: NDArray[np.float32]) -> Map:
    from umap import UMAP

    places = UMAP(n_neighbors=_NEIGHBOURS, metric="cosine", random_state=0, n_jobs=1).fit_transform(unit)
    about = f"UMAP, {_NEIGHBOURS} neighbours, cosine, seed 0. Distances between far groups mean little."
    return Map(store, "UMAP", ids, np.asarray(places, np.float64), about)

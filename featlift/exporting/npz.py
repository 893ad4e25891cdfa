"""Embeddings as NumPy reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featlift.atomic_io import write_atomically
from featlift.store.reading import Store


def write_npz(store: Store, path: Path, cases: Sequence[str]) -> None:
    """Write ``ids`` ``(N,)``, ``vectors`` ``(N, E)`` float32, and ``recipe``, a text of JSON; nothing is pickled.

    Args:
        store: which keeps embeddings.
        path: of the file; an older one is replaced.
        cases: ids, in the order of the rows.

    Raises:
        StoreError: the store keeps no embeddings.
        OutputError: the file cannot be written.
    """
    vectors, _, ids = store[list(cases)].embeddings()
    recipe = json.dumps(store.recipe)
    write_atomically(path, lambda draft: np.savez(draft, ids=np.array(ids), vectors=vectors, recipe=recipe))

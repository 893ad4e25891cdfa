"""Vectors of cases: one for a volume, or one for each of its slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.store.case import Case, CaseLayer
from featlift.store.index import EMBEDDING, index_is_current, read_index
from featlift.store.layout import saved_in
from featlift.store.reading import Store
from featlift.store.vectors import VectorTable

#: The class token, the mean patch token, or one after the other; or what no network saw: the scan's own voxels.
Input = Literal["cls", "patch-mean", "cls+patch-mean", "voxels"]
VOXELS = "voxels"
_COARSE = 8  # cells along each axis of the scan
_PARTS = {"cls": ("cls-mean",), "patch-mean": ("patch-mean",), "cls+patch-mean": ("cls-mean", "patch-mean")}


def input_of(store: Store, wanted: str | None = None) -> Input:
    """What of the features is used: as asked, or else the class token if the backbone has one.

    Raises:
        OptionError: no such input, the backbone has no class token, or the store is empty.
    """
    if wanted is not None and wanted not in get_args(Input):
        raise OptionError(f"input {wanted!r}: choose {', '.join(get_args(Input))}")
    if not len(store):
        raise OptionError(f"{store.path}: no volumes in it")
    has_cls = _has_class_token(store)
    if wanted in ("cls", "cls+patch-mean") and not has_cls:
        raise OptionError(f"input {wanted}: {store.recipe['model']} has no class token; choose patch-mean")
    return wanted or ("cls" if has_cls else "patch-mean")  # type: ignore[return-value]


def _has_class_token(store: Store) -> bool:
    """Whether embeddings have one, or tokens in a store that keeps no embeddings."""
    case, saved = store[next(iter(store))], saved_in(store.recipe)
    if EMBEDDING in saved:
        return "cls-mean" in case.embedding_parts
    return "tokens" in saved and case.tokens is not None


def embeddings_of(store: Store, ids: Sequence[str], given: Input) -> NDArray[np.float32]:
    """One vector a volume ``(N, E)``: class and patch tokens averaged over its slices; or its scan, coarsely.

    They come from the index, one file, where that is up to date; or else from the volumes.

    Raises:
        StoreError: features are damaged, or the store keeps no embeddings.
    """
    if given == VOXELS:
        return np.concatenate(slices_of(store, ids, given))
    if isinstance(store, VectorTable):
        return store.vectors_of(ids)
    store.require(EMBEDDING)
    vectors = _from_index(store, ids) if index_is_current(store.path) else None
    if vectors is None:
        vectors = np.stack([store[case_id].embedding for case_id in ids])
    parts = store[ids[0]].embedding_parts
    return np.concatenate([vectors[:, slice(*parts[name])] for name in _PARTS[given]], axis=1)


def slices_of(store: Store, ids: Iterable[str], given: Input) -> list[NDArray[np.float32]]:
    """One vector a slice, ``(d, C)`` for each case: padding is in no mean. In mode 3d there is one class token, d = 1.

    ``voxels`` are one vector a scan, d = 1: its means in 8 x 8 x 8 blocks of equal extent.

    Raises:
        OptionError: class and patch tokens of mode 3d, which do not meet slice by slice.
        StoreError: features are damaged, or the store does not keep what is asked for.
    """
    if given == VOXELS:
        store.require("scan")
        return [_coarse(store[case_id]) for case_id in ids]
    require_slices(store, given)
    if given == "cls+patch-mean" and store.recipe["mode"] == "3d":
        raise OptionError("input cls+patch-mean: in mode 3d a volume has one class token, not one a slice; choose cls")
    return [slice_vectors(store[case_id], given) for case_id in ids]


def require_slices(store: Store, given: str) -> None:
    """Raise a `StoreError` if the store does not keep what vectors of slices are made of."""
    if given != "patch-mean":
        store.require("tokens")
    if given != "cls":
        store.require("slice_mean")


def slice_vectors(layer: CaseLayer, given: str) -> NDArray[np.float32]:
    """The vectors of a layer's slices ``(d, C)``, as `slices_of` but for the checks.

    Raises:
        StoreError: features are damaged.
    """
    parts = []
    if given != "patch-mean":
        assert layer.tokens is not None  # input_of has looked
        parts.append(np.asarray(layer.tokens[:, 0], dtype=np.float32))
    if given != "cls":
        parts.append(np.asarray(layer.slice_mean[:], dtype=np.float32))
    return np.concatenate(parts, axis=1)


def pooled(slices: Sequence[NDArray[np.float32]], depth: int) -> NDArray[np.float32]:
    """Volumes of other depths brought to a common one ``(N, depth, C)`` by adaptive average pooling.

    Slice i of the common depth is the mean of slices floor(i d / depth) to ceil((i + 1) d / depth), as torch's
    ``adaptive_avg_pool1d`` has it: fewer slices are repeated, more are averaged.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool1d

    return np.stack(
        [
            values if len(values) == depth else adaptive_avg_pool1d(torch.from_numpy(values.T.copy()), depth).T.numpy()
            for values in slices
        ]
    )


def _coarse(case: Case) -> NDArray[np.float32]:
    """The scan, brought to a grid that all scans share, as one vector ``(1, channels * 512)``."""
    import torch
    from torch.nn.functional import adaptive_avg_pool3d

    scan = np.asarray(case.scan[:], dtype=np.float32).reshape(-1, *case.scan_shape)
    return adaptive_avg_pool3d(torch.from_numpy(scan), _COARSE).reshape(1, -1).numpy()


def _from_index(store: Store, ids: Sequence[str]) -> NDArray[np.float32] | None:
    """A row for each id without a Python object for each number: 50,000 are a second of work."""
    table = read_index(store.path)
    rows = {case_id: row for row, case_id in enumerate(table["id"].to_pylist())}
    if not all(case_id in rows for case_id in ids):
        return None
    column = table[EMBEDDING].combine_chunks()
    vectors = np.asarray(column.flatten()).reshape(len(table), -1)
    return np.ascontiguousarray(vectors[[rows[case_id] for case_id in ids]])

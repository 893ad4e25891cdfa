"""What an evaluation against masks takes of a case: its features, its labels, and where they meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.store.case import Case, CaseLayer
from featlift.store.cells import CellGrid
from featlift.volumes.grid import Shape
from featlift.volumes.masks import labels_on
from featlift.volumes.volume import Affine, Volume

_SLAB = 8  # slices that are read at a time, as they are chunked
_MOST_LABELS = 256  # a scan taken for a mask has more values


def grid_of(case: Case, layer: CaseLayer) -> CellGrid:
    """Where the cells of a layer that are scan lie among the voxels of the case's scan."""
    return CellGrid(layer.valid_cells, case.scan_shape, layer.stride, layer.offset)


def layer_of(case: Case, layer: int | None) -> CaseLayer:
    """A layer of a case by its absolute index, the deepest where none is given.

    Raises:
        OptionError: no such layer.
    """
    if layer is None:
        return case
    if layer not in case.layers:
        raise OptionError(f"layer {layer}: the store holds {', '.join(map(str, case.layers))}")
    return case.layers[layer]


def features_of(layer: CaseLayer, slices: range | None = None, uncentred: bool = False) -> NDArray[np.float32]:
    """The dense features of a layer ``(C, d, h, w)``, padded cells cut off.

    Args:
        layer: of a case.
        slices: which of them, all by default.
        uncentred: with their mean given back, see `CaseLayer.uncentred`.

    Raises:
        StoreError: they are damaged.
    """
    d, h, w = layer.valid_cells
    chosen = range(d) if slices is None else slices
    dense = layer.uncentred if uncentred else layer.dense
    return np.asarray(dense[:, chosen.start : chosen.stop, :h, :w], dtype=np.float32)


def scan_of(case: Case, voxels: Sequence[slice | int] = ()) -> NDArray[np.float16]:
    """The stored scan ``(D, H, W)`` or ``(3, D, H, W)``, or a part of it.

    Args:
        case: of a store that keeps scans.
        voxels: which, along d, h and w; all by default.

    Raises:
        StoreError: it is damaged, or not kept.
    """
    return np.asarray(case.scan[(..., *voxels)])


def slabs_of(layer: CaseLayer) -> Iterator[NDArray[np.float32]]:
    """`features_of`, a few slices at a time: ``(C, n, h, w)``."""
    depth = layer.valid_cells[0]
    for first in range(0, depth, _SLAB):
        yield features_of(layer, range(first, min(first + _SLAB, depth)))


def labels_of(case: Case, mask: Volume) -> NDArray[np.int32]:
    """The labels of a mask on the grid of the case's stored scan, ``(D, H, W)``.

    Raises:
        VolumeError: the mask is empty, holds no labels, does not overlap the case, or is the scan itself.
    """
    return as_labels(case, mask, case.scan_shape, case.scan_affine)


def is_the_scan(case: Case, source: Mapping[str, Any]) -> bool:
    """Whether a volume is the scan of a case: of one file and, where that holds several arrays, of one array."""
    scan = case.attributes["source"]
    return bool(source["sha256"] == scan.get("sha256") and source.get("key") == scan.get("key"))


def as_labels(case: Case, mask: Volume, shape: Shape, affine: Affine | None) -> NDArray[np.int32]:
    """The labels of a mask on any grid, ``(D, H, W)``; raises as `labels_of`."""
    if mask.source is not None and is_the_scan(case, mask.source):
        raise VolumeError("its mask is the scan itself: --mask-pattern says which files are masks")
    labels = labels_on(mask, shape, affine)
    if labels.min() < 0 or len(np.unique(labels)) > _MOST_LABELS:
        raise VolumeError("not a mask: its values are those of a scan; --mask-pattern says which files are masks")
    return labels

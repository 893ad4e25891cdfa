"""What an evaluation against masks takes of a case: its features, its labels, and where they meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featlift.errors import RemoteError, StoreError, VolumeError
from featlift.evaluation.cells import CellGrid
from featlift.store.case import Case, CaseLayer
from featlift.volumes.masks import labels_on
from featlift.volumes.volume import Volume

_MOST_LABELS = 256  # a scan taken for a mask has more values


def grid_of(case: Case, layer: CaseLayer) -> CellGrid:
    """Where the cells of a layer that are scan lie among the voxels of the case's scan."""
    return CellGrid(layer.valid_cells, case.scan_shape, layer.stride, layer.offset)


def features_of(layer: CaseLayer) -> NDArray[np.float32]:
    """The dense features of a layer ``(C, d, h, w)``, padded cells cut off.

    Raises:
        StoreError: they are damaged.
    """
    d, h, w = layer.valid_cells
    try:
        return np.asarray(layer.dense[:, :d, :h, :w], dtype=np.float32)
    except RemoteError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError("its features are damaged; `featlift verify` says where") from error


def labels_of(case: Case, mask: Volume) -> NDArray[np.int32]:
    """The labels of a mask on the grid of the case's stored scan, ``(D, H, W)``.

    Raises:
        VolumeError: the mask is empty, holds no labels, does not overlap the case, or is the scan itself.
    """
    if mask.source is not None and mask.source["sha256"] == case.attributes["source"].get("sha256"):
        raise VolumeError("its mask is the scan itself: --mask-pattern says which files are masks")
    labels = labels_on(mask, case.scan_shape, case.scan_affine)
    if labels.min() < 0 or len(np.unique(labels)) > _MOST_LABELS:
        raise VolumeError("not a mask: its values are those of a scan; --mask-pattern says which files are masks")
    return labels

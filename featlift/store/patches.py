"""A torch data set over a store: patches of features, with the scan and the mask under them, to train heads on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from featlift.errors import OptionError
from featlift.remote import Remote
from featlift.store.case import Case, CaseLayer
from featlift.store.reading import Store, open_store
from featlift.volumes.masks import labels_on
from featlift.volumes.reading import read_mask
from featlift.volumes.regions import Box, cut
from featlift.volumes.source import MaskFile

BEYOND = -1  # label of voxels beyond the scan: what torch calls ignore_index


class FeaturePatches(Dataset[dict[str, Any]]):
    """Patches of dense features at random places, the same ones for the same seed and epoch.

    An item is a dict: ``id``; ``start``, (d, h, w) of its first cell; ``features`` ``(C, d, h, w)`` float32; ``scan``
    ``(D, H, W)`` or ``(3, D, H, W)`` float32, the voxels under the cells, if the store keeps scans; and, where masks
    are given, ``mask`` ``(D, H, W)`` int64, -1 for voxels beyond the scan.

    Args:
        store: a store, or its path or URL.
        patch: (d, h, w) in cells; None takes whole volumes.
        masks: the path of the mask of each case to use, by its id; see `featlift.find_masks`.
        per_case: patches of each case in an epoch.
        foreground: share of patches that are placed around a labelled voxel.
        layer: absolute index; None takes the deepest.
        seed: of the places.

    Raises:
        OptionError: a patch, a share, a case or a layer that makes no sense.
        StoreError: the store keeps no dense features.
    """

    def __init__(
        self,
        store: Store | str | Path,
        patch: Sequence[int] | None = None,
        masks: Mapping[str, MaskFile] | None = None,
        *,
        per_case: int = 1,
        foreground: float = 0.0,
        layer: int | None = None,
        seed: int = 0,
    ) -> None:
        self.store = store if isinstance(store, Store) else open_store(store)
        self.ids = sorted(masks) if masks else list(self.store)
        self.patch = None if patch is None else (int(patch[0]), int(patch[1]), int(patch[2]))
        self.masks = masks
        self.per_case = per_case
        self.foreground = foreground
        self.layer = layer
        self.seed = seed
        self.epoch = 0
        self.store.require("dense")
        if self.patch is not None and min(self.patch) < 1:
            raise OptionError(f"patch {self.patch}: give at least one cell along d, h and w")
        if foreground and not masks:
            raise OptionError("patches around labelled voxels need masks")
        if unknown := [case_id for case_id in self.ids if case_id not in self.store]:
            raise OptionError(f"masks for {unknown[0]}, which is no case of {self.store.path}")

    def __len__(self) -> int:
        return len(self.ids) * self.per_case

    def set_epoch(self, epoch: int) -> None:
        """Take other places: call it before each epoch, as with torch's DistributedSampler."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        case = self.store[self.ids[index // self.per_case]]
        layer = case if self.layer is None else case.layers[self.layer]
        labels = self._labels(case)
        cells = self._place(case, layer, labels, np.random.default_rng([self.seed, self.epoch, index]))
        voxels = _under(cells, layer)
        item = {
            "id": case.id,
            "start": cells.start,
            "features": _tensor(cut(layer.dense, None, cells, fill_value=0)[0], torch.float32),
        }
        if "scan" in case.saved:
            item["scan"] = _tensor(cut(case.scan, None, voxels)[0], torch.float32)
        if labels is not None:
            item["mask"] = _tensor(cut(labels, None, voxels, fill_value=BEYOND)[0], torch.int64)
        return item

    def _labels(self, case: Case) -> NDArray[np.int16] | None:
        if self.masks is None:
            return None
        return _labels_on_scan(self.store.path, case.id, self.masks[case.id])

    def _place(self, case: Case, layer: CaseLayer, labels: NDArray[np.int16] | None, rng: np.random.Generator) -> Box:
        """Where a patch lies: anywhere among the cells that are scan, or around a labelled voxel."""
        _, *sizes = layer.dense.shape
        if self.patch is None:
            return Box((0, 0, 0), (sizes[0], sizes[1], sizes[2]))
        room = np.maximum(np.array(layer.valid_cells) - self.patch, 0)
        start = rng.integers(room + 1)
        if labels is not None and rng.random() < self.foreground:
            labelled = np.flatnonzero(labels > 0)
            voxel = np.unravel_index(labelled[rng.integers(len(labelled))], labels.shape)
            cell = (np.array(voxel) - layer.offset) / layer.stride
            start = np.clip(np.round(cell).astype(int) - np.array(self.patch) // 2, 0, room)
        return Box((int(start[0]), int(start[1]), int(start[2])), self.patch)


@lru_cache(maxsize=4)  # patches of one case often follow each other
def _labels_on_scan(store: Path | Remote, case_id: str, mask: MaskFile) -> NDArray[np.int16]:
    case = open_store(store)[case_id]
    return labels_on(read_mask(mask), case.scan_shape, case.scan_affine).astype(np.int16)


def _under(cells: Box, layer: CaseLayer) -> Box:
    """The voxels that cells stand for."""
    first = np.floor(np.array(layer.offset) - (np.array(layer.stride) - 1) / 2).astype(int)  # as FeatDice does
    start = np.array(cells.start) * layer.stride + first
    shape = np.array(cells.shape) * layer.stride
    return Box((int(start[0]), int(start[1]), int(start[2])), (int(shape[0]), int(shape[1]), int(shape[2])))


def _tensor(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)

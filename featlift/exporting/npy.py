"""Dense features as NumPy reads them, with a JSON beside that says where they lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featlift.exporting.picture import check_channels
from featlift.store.case import Case
from featlift.store.features import layer_of, slabs_of
from featlift.volumes.volume import Affine


def write_npy(path: Path, case: Case, channels: Sequence[int] = (), layer: int | None = None) -> None:
    """Write features ``(C, d, h, w)`` in their stored type, of int8 as float32, padded cells cut off.

    Args:
        path: ends in .npy.
        case: whose features they are.
        channels: which of the C channels; empty takes all.
        layer: absolute index; None is the deepest.

    Raises:
        OptionError: no such channel.
        StoreError: the features are damaged.
        OSError: the file cannot be written.
    """
    from numpy.lib.format import open_memmap

    chosen = layer_of(case, layer)
    check_channels(chosen, channels)
    stored = chosen.dense
    taken = list(channels) or slice(None)
    shape = (len(channels) or stored.shape[0], *chosen.valid_cells)
    array = open_memmap(path, mode="w+", dtype=np.dtype(stored.dtype), shape=shape)
    start = 0
    for slab in slabs_of(chosen):
        array[:, start : start + slab.shape[1]] = slab[taken]
        start += slab.shape[1]
    array.flush()


def write_about(path: Path, case: Case, channels: Sequence[int] = (), layer: int | None = None) -> None:
    """Write the JSON beside: which features they are, and where each cell lies.

    Raises:
        OSError: the file cannot be written.
    """
    chosen = layer_of(case, layer)
    about: dict[str, Any] = {
        "id": case.id,
        "axes": ["feature", "d", "h", "w"],
        "shape": [len(channels) or chosen.dense.shape[0], *chosen.valid_cells],
        "layer": chosen.grid["layer"],
        "channels": list(channels) or "all",
        "affine_lps_mm": _listed(chosen.affine),
        "stride_voxels": list(chosen.stride),
        "offset_voxels": list(chosen.offset),
        "scan_shape": list(case.scan_shape),
        "scan_affine_lps_mm": _listed(case.scan_affine),
    }
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _listed(affine: Affine | None) -> list[list[float]] | None:
    return None if affine is None else affine.tolist()

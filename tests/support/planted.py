"""Stores with a body that shines out of air, and in it two organs, each with a feature of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featlift.store import CaseData, LayerData, Store, StoreWriter, open_store, rebuild_index

SHAPE = (6, 32, 40)  # voxels
STRIDE = (1, 4, 4)
CELLS = (6, 8, 10)
CHANNELS = 12
AFFINE = np.array([[0.0, 0, 0.7, -20], [0, 0.8, 0, 5], [3.0, 0, 0, 40], [0, 0, 0, 1]])  # LPS
RECIPE = {"model": "made-up", "weights_sha256": "0" * 64, "norm": True, "mode": "2d", "layers": [0]}


def body() -> np.ndarray:
    """Cells ``(d, h, w)``: 0 air, 1 body, 2 and 3 its organs, each cut off by air around the sides."""
    kinds = np.zeros(CELLS, int)
    kinds[:, 1:-1, 1:-1] = 1
    kinds[1:4, 2:4, 2:5] = 2
    kinds[2:5, 4:6, 5:8] = 3
    return kinds


def directions(seed: int = 0) -> np.ndarray:
    """A feature for each kind of cell, ``(4, C)``: air is far from everything."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(4, CHANNELS))
    features[0] = -8 * np.abs(features[0])
    return features


def plant(
    path: Path,
    ids: tuple[str, ...] = ("one", "two"),
    affine: np.ndarray | None = AFFINE,
    shift: float = 0.0,
    save: tuple[str, ...] | None = None,
    **recipe,
) -> Store:
    """A store of such cases, no two with the same noise; `shift` moves all features a little, as another mode would."""
    writer = StoreWriter(path, RECIPE | recipe | ({} if save is None else {"save": list(save)}))
    kinds = body()
    for number, case_id in enumerate(ids):
        rng = np.random.default_rng(number)
        dense = np.moveaxis(directions()[kinds], -1, 0) + 0.1 * rng.normal(size=(CHANNELS, *CELLS)) + shift
        scan = np.kron(np.array([0.0, 0.5, 0.7, 0.9])[kinds], np.ones(STRIDE))
        offset = [0, 1.5, 1.5]
        grid_affine = None
        if affine is not None:
            grid = np.diag([*STRIDE, 1.0])
            grid[:3, 3] = offset
            grid_affine = (affine @ grid).tolist()
        own = {
            "layer": 0,
            "stride": [*STRIDE],
            "offset": offset,
            "valid": [*CELLS],
            "affine": grid_affine,
            "norm": True,
        }
        layer = LayerData(
            0, dense, np.zeros((CELLS[0], 0, CHANNELS)), dense.mean(axis=(2, 3)).T.astype(np.float32), own
        )
        attributes = {
            "source": {"name": f"{case_id}.nii.gz", "sha256": f"{number:064d}"},
            "selection": {"parts": [], "centre": None},
            "modality": "CT",
            "shape": [*SHAPE],
            "affine": None if affine is None else affine.tolist(),
            "spacing": None if affine is None else [3.0, 0.8, 0.7],
        }
        embedding = dense.mean(axis=(1, 2, 3)).astype(np.float32)
        parts = {"patch-mean": [0, CHANNELS]}
        kept = scan if save is None or "scan" in save else None
        writer.publish(CaseData(case_id, kept, [layer], embedding, parts, (), attributes))
    rebuild_index(path)
    return open_store(path)


def in_slabs(features: np.ndarray, slices: int = 8):
    """Features ``(C, d, h, w)`` as they are read from a store, a few slices at a time."""
    return lambda: (features[:, first : first + slices] for first in range(0, features.shape[1], slices))

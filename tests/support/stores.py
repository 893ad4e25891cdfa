"""Stores of features made up by tests: what a network saw is not at stake here, only what is made of its features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featlift.store import CaseData, LayerData, Store, StoreWriter, open_store, rebuild_index

RECIPE = {"model": "made-up", "mode": "2d", "layers": [0]}


def write_store(path: Path, cases: dict, labels: dict | None = None, **recipe) -> Store:
    """A store of cases, each an array of class tokens ``(d, C)``, or a pair of None and patch means ``(d, C)``.

    Where there are class tokens, the patch means are twice as long.
    """
    writer = StoreWriter(path, RECIPE | recipe)
    for case_id, given in cases.items():
        tokens, patches = (None, given[1]) if isinstance(given, tuple) else (given, 2 * given)
        depth, channels = patches.shape
        grid = {"layer": 0, "stride": [1, 4, 4], "offset": [0, 1.5, 1.5], "valid": [depth, 1, 1], "affine": None}
        own = np.zeros((depth, 0, channels)) if tokens is None else tokens[:, None]
        layer = LayerData(0, patches.T[:, :, None, None], own, patches.astype(np.float32), {**grid, "norm": True})
        means = {"patch-mean": patches.mean(axis=0)}
        if tokens is not None:
            means = {"cls-mean": tokens.mean(axis=0), **means}
        parts = {name: [number * channels, (number + 1) * channels] for number, name in enumerate(means)}
        attributes = {
            "source": {"name": case_id, "sha256": "0" * 64},
            "selection": {"parts": [], "centre": None},
            "modality": None,
            "shape": [depth, 4, 4],
            "affine": None,
            "spacing": None,
        }
        embedding = np.concatenate(list(means.values())).astype(np.float32)
        names = () if tokens is None else ("cls",)
        writer.publish(CaseData(case_id, np.zeros((depth, 4, 4)), [layer], embedding, parts, names, attributes))
    rebuild_index(path, labels)
    return open_store(path)


def clouds(count=60, classes=2, depth=3, channels=6, spread=1.0, seed=0):
    """Class tokens of cases in clouds around a direction for each class, and the class of each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, channels)) * 2
    labels = np.arange(count) % classes
    # as a store keeps them, float16
    tokens = (centres[labels][:, None] + spread * rng.normal(size=(count, depth, channels))).astype(np.float16)
    ids = [f"case{number:03d}" for number in range(count)]
    return dict(zip(ids, tokens.astype(np.float32), strict=True)), dict(zip(ids, labels.tolist(), strict=True))


def splits_of(ids, classes=2, parts=("train", "train", "train", "val", "test", "test")):
    """A split for each id, in turn, every class being in each."""
    return {case_id: parts[number // classes % len(parts)] for number, case_id in enumerate(ids)}


def write_labels(path: Path, labels: dict, splits: dict | None = None, name: str = "label") -> Path:
    """A CSV as people write it."""
    lines = [f"id,{name}{',split' if splits else ''}"]
    lines += [f"{case_id},{label}{',' + splits[case_id] if splits else ''}" for case_id, label in labels.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_cells(path: Path, cases: dict, affine: np.ndarray | None = None, padded: int = 1) -> Store:
    """A store of cases ``(C, d, h, w)`` with a class token a slice, the mean of its cells, and rubbish in the padding.

    Cells have 4 x 4 voxels; `padded` rows and columns of them lie beyond the scan.
    """
    writer = StoreWriter(path, RECIPE)
    for case_id, cells in cases.items():
        channels, depth, rows, columns = cells.shape
        dense = np.full((channels, depth, rows + padded, columns + padded), 50.0)
        dense[:, :, :rows, :columns] = cells
        offset = np.diag([1.0, 4, 4, 1])
        offset[:3, 3] = 0, 1.5, 1.5
        grid = {
            "layer": 0,
            "stride": [1, 4, 4],
            "offset": [0, 1.5, 1.5],
            "valid": [depth, rows, columns],
            "affine": None if affine is None else (affine @ offset).tolist(),
            "norm": True,
        }
        means = cells.mean(axis=(2, 3)).T.astype(np.float32)
        shape = [depth, 4 * rows, 4 * columns]
        attributes = {
            "source": {"name": case_id, "sha256": "0" * 64},
            "selection": {"parts": [], "centre": None},
            "modality": None,
            "shape": shape,
            "affine": None if affine is None else affine.tolist(),
            "spacing": None,
        }
        embedding = np.concatenate([means.mean(axis=0)] * 2)
        parts = {"cls-mean": [0, channels], "patch-mean": [channels, 2 * channels]}
        layer = LayerData(0, dense, means[:, None], means, grid)
        writer.publish(CaseData(case_id, np.zeros(shape), [layer], embedding, parts, ("cls",), attributes))
    rebuild_index(path)
    return open_store(path)

"""Features small enough for a page, from which a browser computes cosine similarity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.store.quantised import Quantised, quantise
from featlift.volumes.grid import Shape

_SHORTEST = 1e-8
_ASKED, _COMPARED = 64, 4096  # cells, all of one against all of the other


@dataclass(frozen=True, eq=False)
class Reduced:
    """The features of a volume in K channels of eight bits, and what that costs.

    Attributes:
        features: ``(d, h, w, K)``.
        channels: C, how many there were.
        variance_kept: share of the variance of the features, each scaled to length 1.
        error: by how much a cosine between two cells is off: the mean, and the largest of those compared, which are
            64 cells drawn at random with 4096.
    """

    features: Quantised
    channels: int
    variance_kept: float
    error: tuple[float, float]

    def similarity(self, cell: Shape) -> NDArray[np.float32]:
        """The cosine of every cell to one of them, ``(d, h, w)``, as the page computes it."""
        unit = _unit(_dequantised(self.features))
        similarity: NDArray[np.float32] = unit @ unit[cell]
        return similarity


def reduce(slabs: Callable[[], Iterable[NDArray[np.float32]]], channels: int) -> Reduced:
    """Reduce features to the directions that hold most of them, so that cosines change least.

    The directions are the leading eigenvectors of the second moment of the features scaled to length 1. They are not
    principal components: taking the mean off, as those do, would change the angles.

    Args:
        slabs: gives the features ``(C, d, h, w)``, padded cells cut off, a few slices at a time; it is called twice.
        channels: K; C of them at most are kept.
    """
    directions, variance_kept, count = _directions(slabs(), channels)
    compared = np.random.default_rng(0).choice(count, min(_COMPARED, count), replace=False)
    asked = compared[:_ASKED]
    wanted = np.union1d(asked, compared)
    parts, sample, first = [], [], 0
    for slab in slabs():
        unit = _vectors(slab)
        parts.append((unit @ directions).reshape(*slab.shape[1:], -1))
        sample.append(unit[wanted[(wanted >= first) & (wanted < first + len(unit))] - first])
        first += len(unit)
    features = quantise(np.concatenate(parts), axis=-1)
    full = np.concatenate(sample)
    shown = _unit(_dequantised(features, wanted))
    asked, compared = np.searchsorted(wanted, asked), np.searchsorted(wanted, compared)
    off = np.abs(shown[asked] @ shown[compared].T - full[asked] @ full[compared].T)
    return Reduced(features, len(directions), variance_kept, (float(off.mean()), float(off.max())))


def _directions(slabs: Iterable[NDArray[np.float32]], channels: int) -> tuple[NDArray[np.float32], float, int]:
    """The K directions ``(C, K)``, the share of the variance in them, and how many cells there are."""
    count = 0
    total: NDArray[np.float64] = np.zeros(1)
    moment: NDArray[np.float64] = np.zeros((1, 1))
    for slab in slabs:
        unit = _vectors(slab)
        count += len(unit)
        total = total + unit.sum(axis=0, dtype=np.float64)
        moment = moment + unit.T @ unit
    mean, moment = total / count, moment / count
    directions = np.linalg.eigh(moment)[1][:, ::-1][:, :channels]
    variance = np.trace(moment) - mean @ mean
    kept = np.einsum("ck,cd,dk->", directions, moment, directions) - np.square(mean @ directions).sum()
    # features that are all alike have no variance to lose
    share = float(np.clip(kept / variance, 0, 1)) if variance > _SHORTEST else 1.0
    return directions.astype(np.float32), share, count


def _vectors(slab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features ``(C, d, h, w)`` as vectors ``(N, C)`` of length 1."""
    return _unit(slab.reshape(len(slab), -1).T)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors, along the last axis, at length 1."""
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _SHORTEST)
    return unit


def _dequantised(features: Quantised, cells: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
    """Features of all cells, or ``(N, K)`` of some by their number."""
    values = features.values
    chosen = values if cells is None else values.reshape(-1, values.shape[-1])[cells]
    return chosen.astype(np.float32) * features.scale + features.offset

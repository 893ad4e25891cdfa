"""Features small enough for a page, from which a browser computes cosine similarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.sample import evenly_spaced
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
        error: by how much a cosine between two cells is off: the mean, and the largest of those compared, which are all
            of 64 cells, evenly spaced, with all of 4096.
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


def reduce(features: NDArray[np.float32], channels: int) -> Reduced:
    """Reduce features to the directions that hold most of them, so that cosines change least.

    The directions are the leading eigenvectors of the second moment of the features scaled to length 1. They are not
    principal components: taking the mean off, as those do, would change the angles.

    Args:
        features: ``(C, d, h, w)``, padded cells cut off.
        channels: K; C of them at most are kept.
    """
    count, *cells = features.shape
    unit = _unit(features.reshape(count, -1).T)
    mean = unit.mean(axis=0, dtype=np.float64)
    moment = (unit.T @ unit).astype(np.float64) / len(unit)
    directions = np.linalg.eigh(moment)[1][:, ::-1][:, :channels]
    variance = np.trace(moment) - mean @ mean
    kept = np.einsum("ck,cd,dk->", directions, moment, directions) - np.square(mean @ directions).sum()
    reduced = unit @ directions.astype(np.float32)
    quantised = quantise(reduced, axis=-1)
    error = _error(unit, quantised)
    shape = (*cells, reduced.shape[1])
    stored = Quantised(quantised.values.reshape(shape), quantised.scale, quantised.offset)
    # features that are all alike have no variance to lose
    share = float(np.clip(kept / variance, 0, 1)) if variance > _SHORTEST else 1.0
    return Reduced(stored, count, share, error)


def _error(unit: NDArray[np.float32], reduced: Quantised) -> tuple[float, float]:
    """Mean and largest difference between the cosines of full and of reduced features (N, C) and (N, K)."""
    asked, compared = (evenly_spaced(range(len(unit)), most) for most in (_ASKED, _COMPARED))
    part = Quantised(reduced.values[asked + compared], reduced.scale, reduced.offset)
    shown = _unit(_dequantised(part))
    off = np.abs(shown[: len(asked)] @ shown[len(asked) :].T - unit[asked] @ unit[compared].T)
    return float(off.mean()), float(off.max())


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors, along the last axis, at length 1."""
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _SHORTEST)
    return unit


def _dequantised(features: Quantised) -> NDArray[np.float32]:
    return features.values.astype(np.float32) * features.scale + features.offset

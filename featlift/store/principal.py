"""Principal components of vectors that come in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError


@dataclass(frozen=True, eq=False)
class Projection:
    """Vectors of C channels to K: ``components @ (vector - mean)``.

    Attributes:
        mean: ``(C,)`` float32.
        components: ``(K, C)`` float32, orthogonal.
        variance_kept: share of the variance of the sample; None where nothing was fitted.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    variance_kept: float | None = None


class Covariance:
    """Mean and covariance of vectors that come in parts, exactly, in float64.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._mean = np.zeros(channels)
        self._scatter = np.zeros((channels, channels))

    def add(self, vectors: NDArray[Any]) -> None:
        """Take in vectors ``(N, C)``: the parallel update of Chan, Golub and LeVeque (1979)."""
        if not len(vectors):
            return
        vectors = vectors.astype(np.float64)
        mean = vectors.mean(axis=0)
        vectors -= mean
        total = self.count + len(vectors)
        apart = mean - self._mean
        self._scatter += vectors.T @ vectors + np.outer(apart, apart) * (self.count * len(vectors) / total)
        self._mean += apart * (len(vectors) / total)
        self.count = total

    def principal(self, kept: int) -> Projection:
        """The K directions of the largest variance, all C if there are fewer.

        Of each the largest coefficient is positive, as in scikit-learn.

        Raises:
            OptionError: fewer vectors than directions.
        """
        if self.count <= kept:
            raise OptionError(f"reduce pca:{kept}: the sample has only {self.count} feature cells")
        variances, directions = np.linalg.eigh(self._scatter / (self.count - 1))
        components = directions[:, ::-1][:, :kept].T
        largest = np.abs(components).argmax(axis=1)
        components = components * np.sign(components[np.arange(len(components)), largest])[:, None]
        total = variances.sum()
        share = float(variances[::-1][:kept].sum() / total) if total else 1.0  # of what does not vary nothing is lost
        return Projection(self._mean.astype(np.float32), np.ascontiguousarray(components, np.float32), share)

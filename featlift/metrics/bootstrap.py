"""How far a mean can be trusted: percentile bootstrap over cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
#: Of fewer cases no interval is given: resamples of a handful are too alike to hold 95 % of anything.
LEAST_CASES = 10


def groups_of(names: Sequence[str]) -> NDArray[np.intp]:
    """Numbers from 0 for names, the same for the same name, ``(N,)``."""
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        mean: over the cases; nan without any.
        low: 2.5th percentile of the means of the resamples; None for less than `LEAST_CASES`.
        high: 97.5th percentile.
        cases: how many.
    """

    mean: float
    low: float | None
    high: float | None
    cases: int


def interval_of_mean(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean and its 95 % percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: one a case. Cases count as independent, which several lesions of one patient are not.
        seed: of the resamples.
        resamples: how many.
    """
    scores = np.asarray(values, dtype=np.float64)
    if len(scores) < LEAST_CASES:
        return Interval(float(scores.mean()) if len(scores) else float("nan"), None, None, len(scores))
    rng = np.random.default_rng(seed)
    means = [scores[rng.integers(len(scores), size=len(scores))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(scores.mean()), float(low), float(high), len(scores))

"""Whether two results differ by more than chance: paired t-tests, corrected for how many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def paired_t(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Student's t for paired samples and its two-sided p, by scipy's ``ttest_rel``.

    Returns:
        nan, nan for fewer than two pairs and for differences that are all the same, of which there is no test.
    """
    from scipy.stats import ttest_rel

    differences = np.subtract(first, second)
    if len(differences) < 2 or np.ptp(differences) <= 1e-12 * max(1.0, float(np.abs(differences).max())):
        return math.nan, math.nan
    t, p = ttest_rel(first, second)
    return float(t), float(p)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that the chance of any false finding stays below the level (Holm 1979).

    Args:
        values: uncorrected; nan where there is no test, which then does not count.
    """
    p = np.asarray(values, dtype=np.float64)
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # nan comes last
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()

"""How far scores of a classification can be trusted: percentile bootstrap over cases.

A resample is how often each case was drawn. The scores of all resamples come out of a few matrix products; one by one,
scikit-learn would take minutes for a thousand of them. The tests hold every score to scikit-learn's with these weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featlift.metrics.classification import SPECIFICITY, decide, sensitivity_name

RESAMPLES = 1_000
_AT_ONCE = 4_000_000  # weights

Weights = NDArray[np.float64]


def classification_intervals(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating],
    specificity: float = SPECIFICITY,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of `classification_measures`, averaged over the seeds.

    Cases count as independent, which several scans of one patient are not. The same cases are drawn for every seed, so
    the interval is of cases, not of seeds. A resample without one of the classes has no AUC and no
    sensitivity, and does not count there.

    Args:
        labels: true classes, ``(N,)``.
        probabilities: ``(seeds, N, classes)``.
        specificity: at which sensitivity is read.
        seed: of the resamples.
        resamples: how many.

    Returns:
        The low and the high end by name.
    """
    rng = np.random.default_rng(seed)
    count = len(labels)
    at_once = max(1, _AT_ONCE // count)
    found: list[dict[str, Weights]] = []
    for start in range(0, resamples, at_once):
        weights = np.empty((min(at_once, resamples - start), count))
        for row in weights:
            row[:] = np.bincount(rng.integers(count, size=count), minlength=count)
        by_seed = [weighted_measures(labels, each, weights, specificity) for each in probabilities]
        found.append({name: np.mean([values[name] for values in by_seed], axis=0) for name in by_seed[0]})
    intervals = {}
    for name in found[0]:
        values = np.concatenate([chunk[name] for chunk in found])
        low, high = np.percentile(values[np.isfinite(values)], (2.5, 97.5))
        intervals[name] = (float(low), float(high))
    return intervals


def weighted_measures(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating], weights: Weights, specificity: float = SPECIFICITY
) -> dict[str, Weights]:
    """`classification_measures` for many weightings of the cases at once.

    Args:
        labels: true classes, ``(N,)``.
        probabilities: ``(N, classes)``.
        weights: ``(R, N)``.
        specificity: at which sensitivity is read.

    Returns:
        ``(R,)`` values by name; nan where a weighting leaves a class without cases.
    """
    classes = probabilities.shape[1]
    ones = range(1, 2) if classes == 2 else range(classes)
    curves = [areas_and_sensitivities(labels == one, probabilities[:, one], weights, specificity) for one in ones]
    cells = np.eye(classes * classes)[labels * classes + decide(probabilities)]
    confusion = (weights @ cells).reshape(-1, classes, classes)
    hits = np.einsum("rkk->rk", confusion)
    true, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    recalls = _ratio(hits, true)
    chosen = slice(1, 2) if classes == 2 else slice(None)
    return {
        "auc": np.mean([area for area, _ in curves], axis=0),
        "accuracy": hits.sum(axis=1) / weights.sum(axis=1),
        "balanced_accuracy": recalls.sum(axis=1) / (true > 0).sum(axis=1),
        "precision": _ratio(hits, predicted)[:, chosen].mean(axis=1),
        "recall": recalls[:, chosen].mean(axis=1),
        "f1": _ratio(2 * hits, true + predicted)[:, chosen].mean(axis=1),
        "jaccard": _ratio(hits, true + predicted - hits)[:, chosen].mean(axis=1),
        sensitivity_name(specificity): np.mean([sensitivity for _, sensitivity in curves], axis=0),
    }


def areas_and_sensitivities(
    positive: NDArray[np.bool_], scores: NDArray[np.floating], weights: Weights, specificity: float = SPECIFICITY
) -> tuple[Weights, Weights]:
    """Areas under the receiver operating characteristic, and sensitivities at a specificity, for many weightings.

    Args:
        positive: ``(N,)``.
        scores: ``(N,)``.
        weights: ``(R, N)``.
        specificity: at which sensitivity is read.
    """
    inside, outside = np.flatnonzero(positive), np.flatnonzero(~positive)
    outside = outside[np.argsort(-scores[outside])]
    falling, own = -scores[outside], -scores[inside]
    false_alarms = np.zeros((len(weights), len(outside) + 1))
    np.cumsum(weights.take(outside, axis=1), axis=1, out=false_alarms[:, 1:])
    # what lies above each positive case, and what does not lie below it: equal scores rise together
    above = false_alarms.take(np.searchsorted(falling, own, side="left"), axis=1)
    not_below = false_alarms.take(np.searchsorted(falling, own, side="right"), axis=1)
    found = weights.take(inside, axis=1)
    positives, negatives = found.sum(axis=1), false_alarms[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        # a case outside costs each positive one that it is above, and half of those with which it ties
        areas = 1 - (found * (above + not_below)).sum(axis=1) / (2 * positives * negatives)
        allowed = not_below <= (1 - specificity + 1e-12) * negatives[:, None]
        sensitivities = (found * allowed).sum(axis=1) / positives
    return areas, np.where(negatives > 0, sensitivities, np.nan)


def mean_areas(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUC of each seed, ``(S, N, classes)`` to ``(S,)``: of two classes the second's, of more the mean over all."""
    classes = probabilities.shape[-1]
    even = np.ones((1, len(labels)))
    return np.array(
        [
            np.mean(
                [
                    areas_and_sensitivities(labels == one, each[:, one], even)[0][0]
                    for one in (range(1, 2) if classes == 2 else range(classes))
                ]
            )
            for each in probabilities
        ]
    )


def _ratio(part: Weights, whole: Weights) -> Weights:
    """A quotient that is 0 where there is nothing to divide by, as scikit-learn's ``zero_division=0``."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

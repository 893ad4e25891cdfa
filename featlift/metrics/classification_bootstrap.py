"""How far scores of a classification can be trusted: percentile bootstrap over cases, or over patients with several.

A resample is how often each case was drawn. The scores of all resamples come out of a few matrix products; one by one,
scikit-learn would take minutes for a thousand of them. The tests hold every score to scikit-learn's with these weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.metrics.classification import SPECIFICITY, decide, sensitivity_name

RESAMPLES = 1_000
_AT_ONCE = 4_000_000  # weights

Weights = NDArray[np.float64]
Groups = NDArray[np.intp]


@dataclass(frozen=True)
class Predictions:
    """What was predicted of one task.

    Attributes:
        cases: which of all cases have its label, ``(N,)``.
        labels: their true classes, ``(N,)``.
        probabilities: ``(seeds, N, classes)``.
    """

    cases: NDArray[np.intp]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.floating]


def classification_intervals(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating],
    specificity: float = SPECIFICITY,
    seed: int = 0,
    resamples: int = RESAMPLES,
    groups: Groups | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of `classification_measures`, averaged over the seeds.

    The same cases are drawn for every seed, so the interval is of cases, not of seeds. A resample without one of the
    classes has no AUC and no sensitivity, and does not count there.

    Args:
        labels: true classes, ``(N,)``.
        probabilities: ``(seeds, N, classes)``.
        specificity: at which sensitivity is read.
        seed: of the resamples.
        resamples: how many.
        groups: the patient of each case, who is drawn with all of them; None draws case by case.

    Returns:
        The low and the high end by name.
    """
    alone = Predictions(np.arange(len(labels)), labels, np.asarray(probabilities))
    return mean_intervals([alone], len(labels), specificity, seed, resamples, groups)


def mean_intervals(
    tasks: Sequence[Predictions],
    count: int,
    specificity: float = SPECIFICITY,
    seed: int = 0,
    resamples: int = RESAMPLES,
    groups: Groups | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of `mean_measures`: the same cases are drawn for every task and seed.

    Args:
        tasks: what was predicted, of all cases or of some of them.
        count: how many cases there are to draw from.
        specificity: at which sensitivity is read.
        seed: of the resamples.
        resamples: how many.
        groups: the patient of each of the cases, who is drawn with all of them; None draws case by case.

    Returns:
        The low and the high end by name; a measure that no resample has is not among them.
    """
    found = [mean_measures(tasks, weights, specificity) for weights in resampled(count, seed, resamples, groups)]
    ends = {name: percentile_interval(np.concatenate([chunk[name] for chunk in found])) for name in found[0]}
    return {name: interval for name, interval in ends.items() if interval is not None}


def resampled(count: int, seed: int = 0, resamples: int = RESAMPLES, groups: Groups | None = None) -> Iterator[Weights]:
    """How often each of so many cases was drawn, ``(R, count)``: a few of the resamples at a time.

    With `groups`, numbers from 0 of each case's patient, patients are drawn, as many as there are.
    """
    drawn = count if groups is None else int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // count)
    for start in range(0, resamples, at_once):
        weights = np.empty((min(at_once, resamples - start), count))
        for row in weights:
            times = np.bincount(rng.integers(drawn, size=drawn), minlength=drawn)
            row[:] = times if groups is None else times[groups]
        yield weights


def percentile_interval(values: Weights) -> tuple[float, float] | None:
    """What the middle 95 % of the values lie between, nan left out; None if there is nothing else."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def mean_measures(
    tasks: Sequence[Predictions], weights: Weights, specificity: float = SPECIFICITY
) -> dict[str, Weights]:
    """`weighted_measures` averaged over the seeds of each task, then over the tasks, every one of which counts alike.

    Args:
        tasks: what was predicted.
        weights: of all cases, ``(R, count)``; each task takes those of its own cases.
        specificity: at which sensitivity is read.

    Returns:
        ``(R,)`` values by name. Where a weighting leaves a task without a value it is the mean of the others; nan where
        none has one.
    """
    values: dict[str, list[Weights]] = {}
    for task in tasks:
        own = weights[:, task.cases]
        by_seed = [weighted_measures(task.labels, each, own, specificity) for each in task.probabilities]
        for name in by_seed[0]:
            values.setdefault(name, []).append(np.mean([measures[name] for measures in by_seed], axis=0))
    return {name: np.ma.masked_invalid(each).mean(axis=0).filled(np.nan) for name, each in values.items()}


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
        ``(R,)`` values by name; nan for an AUC or a sensitivity where a weighting leaves a class without cases, and for
        all where it leaves none.
    """
    drawn = weights.sum(axis=1)
    classes = probabilities.shape[1]
    ones = range(1, 2) if classes == 2 else range(classes)
    curves = [areas_and_sensitivities(labels == one, probabilities[:, one], weights, specificity) for one in ones]
    cells = np.eye(classes * classes)[labels * classes + decide(probabilities)]
    confusion = (weights @ cells).reshape(-1, classes, classes)
    hits = np.einsum("rkk->rk", confusion)
    true, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    recalls = _ratio(hits, true)
    chosen = slice(1, 2) if classes == 2 else slice(None)
    measures = {
        "auc": np.mean([area for area, _ in curves], axis=0),
        "accuracy": _ratio(hits.sum(axis=1), drawn),
        "balanced_accuracy": _ratio(recalls.sum(axis=1), (true > 0).sum(axis=1)),
        "precision": _ratio(hits, predicted)[:, chosen].mean(axis=1),
        "recall": recalls[:, chosen].mean(axis=1),
        "f1": _ratio(2 * hits, true + predicted)[:, chosen].mean(axis=1),
        "jaccard": _ratio(hits, true + predicted - hits)[:, chosen].mean(axis=1),
        sensitivity_name(specificity): np.mean([sensitivity for _, sensitivity in curves], axis=0),
    }
    return {name: np.where(drawn > 0, values, np.nan) for name, values in measures.items()}


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


def classification_measures(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating], specificity: float = SPECIFICITY
) -> dict[str, float]:
    """AUC, accuracy, balanced accuracy, precision, recall, F1, Jaccard, and sensitivity at a specificity.

    With two classes, of the second; with more, the mean over the classes, each against the others. AUC and accuracy are
    those of the MedMNIST package's evaluator.

    Args:
        labels: true classes, ``(N,)``, each of them there.
        probabilities: ``(N, classes)``.
        specificity: at which sensitivity is read.

    Returns:
        The values by name.
    """
    even = np.ones((1, len(labels)))
    return {
        name: float(value) for name, (value,) in weighted_measures(labels, probabilities, even, specificity).items()
    }


def _ratio(part: Weights, whole: Weights) -> Weights:
    """A quotient that is 0 where there is nothing to divide by, as scikit-learn's ``zero_division=0``."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

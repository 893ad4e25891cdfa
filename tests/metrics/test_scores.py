"""Scores against scikit-learn's, intervals against scipy's."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from featlift.evaluation import auroc, best_dice, dice, interval_of_mean


def samples(seed, levels):
    """A map and a mask that have to do with each other; few levels make many ties."""
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 12, 9)) < rng.uniform(0.05, 0.9)
    values = np.round((rng.normal(size=mask.shape) + mask) * levels) / levels
    return values.astype(np.float32), mask


@pytest.mark.parametrize("levels", [1, 4, 1e6])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns(seed, levels):
    values, mask = samples(seed, levels)
    assert auroc(values, mask) == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), abs=1e-12)
    assert dice(values > 0.5, mask) == pytest.approx(f1_score(mask.ravel(), values.ravel() > 0.5), abs=1e-12)
    precision, recall, _ = precision_recall_curve(mask.ravel(), values.ravel())
    with np.errstate(invalid="ignore"):
        expected = np.nanmax(2 * precision * recall / (precision + recall))
    best, threshold = best_dice(values, mask)
    assert best == pytest.approx(expected, abs=1e-12)
    assert dice(values >= threshold, mask) == best


def test_scores_at_the_ends():
    values = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2)
    everything, nothing = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    assert auroc(values, everything) is None
    assert auroc(values, nothing) is None
    assert best_dice(values, everything) == (1, 0)
    assert best_dice(values, values > 0.5)[0] == auroc(values, values > 0.5) == 1
    assert (dice(nothing, everything), dice(everything, everything)) == (0, 1)
    assert math.isnan(dice(nothing, nothing))


def test_the_interval_is_that_of_a_percentile_bootstrap():
    values = np.random.default_rng(1).beta(2, 5, 30)
    ours = interval_of_mean(values, seed=3)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=4).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert ours == interval_of_mean(values, seed=3)
    assert ours != interval_of_mean(values, seed=4)
    assert ours.cases == 30


@pytest.mark.parametrize("count", [1, 2, 9])
def test_no_interval_of_a_handful_of_cases(count):
    few = interval_of_mean([0.25, 0.75] * (count // 2) + [0.5] * (count % 2))
    assert (few.mean, few.low, few.high, few.cases) == (0.5, None, None, count)
    assert interval_of_mean([0.25, 0.75] * 5).low < 0.5
    assert math.isnan(interval_of_mean([]).mean)

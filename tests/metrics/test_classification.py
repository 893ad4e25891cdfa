"""Scores of classifications against scikit-learn, scipy and the MedMNIST package."""

import numpy as np
import pytest
from medmnist.evaluator import getACC, getAUC
from scipy import stats
from sklearn import metrics
from sklearn.metrics import roc_auc_score

from featlift.evaluation import classification_intervals, classification_measures
from featlift.metrics.classification_bootstrap import weighted_measures


def by_scikit_learn(labels, probabilities, specificity):
    """What `classification_measures` gives."""
    classes = range(probabilities.shape[1])
    two = len(classes) == 2
    predicted = probabilities[:, 1] > 0.5 if two else probabilities.argmax(axis=1)
    how = {"zero_division": 0, **({"average": "binary"} if two else {"average": "macro", "labels": list(classes)})}
    against = [(labels == one, probabilities[:, one]) for one in classes[two:]]
    curves = [metrics.roc_curve(*pair, drop_intermediate=False)[:2] for pair in against]
    return {
        "auc": np.mean([roc_auc_score(*pair) for pair in against]),
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "precision": metrics.precision_score(labels, predicted, **how),
        "recall": metrics.recall_score(labels, predicted, **how),
        "f1": metrics.f1_score(labels, predicted, **how),
        "jaccard": metrics.jaccard_score(labels, predicted, **how),
        f"sensitivity_at_{specificity}": np.mean(
            [found[alarms <= 1 - specificity + 1e-12].max() for alarms, found in curves]
        ),
    }


def predictions(classes, seed=0, count=90, levels=1e6):
    """Labels and probabilities that have to do with each other; few levels make many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    scores = rng.gamma(1, size=(count, classes)) + 1.5 * np.eye(classes)[labels] * rng.random((count, 1))
    return labels, np.round(scores / scores.sum(axis=1, keepdims=True) * levels) / levels


@pytest.mark.parametrize("levels", [4, 1e6])
@pytest.mark.parametrize("classes", [2, 5])
def test_auc_and_accuracy_are_medmnists(classes, levels):
    """Of its own evaluator, which takes labels with an axis of their own."""
    task = "binary-class" if classes == 2 else "multi-class"
    for seed in range(5):
        labels, probabilities = predictions(classes, seed, levels=levels)
        found = classification_measures(labels, probabilities)
        assert found["auc"] == pytest.approx(getAUC(labels[:, None], probabilities, task), abs=1e-12)
        assert found["accuracy"] == getACC(labels[:, None], probabilities, task)


def test_a_table_of_two_classes_by_hand():
    """3 of 4 positives found, 2 false alarms among 6."""
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    positive = np.array([0.9, 0.8, 0.7, 0.3, 0.95, 0.6, 0.2, 0.2, 0.1, 0.0])
    found = classification_measures(labels, np.stack([1 - positive, positive], axis=1), specificity=0.8)
    assert found == pytest.approx(
        {
            "auc": 19 / 24,  # 5, 5, 5 and 4 of the 6 negatives are below the positives
            "accuracy": 0.7,
            "balanced_accuracy": (3 / 4 + 4 / 6) / 2,
            "precision": 3 / 5,
            "recall": 3 / 4,
            "f1": 6 / 9,
            "jaccard": 3 / 6,
            "sensitivity_at_0.8": 3 / 4,  # one false alarm of six is allowed: above 0.6 three of four are found
        }
    )


def test_one_half_is_no_and_a_tie_the_first():
    halves = np.full((4, 2), 0.5)
    assert classification_measures(np.array([0, 0, 0, 1]), halves)["accuracy"] == 0.75
    thirds = np.full((3, 3), 1 / 3)
    assert classification_measures(np.arange(3), thirds)["recall"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("levels", [3, 1e6])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_score_is_scikit_learns(classes, levels):
    for seed in range(20):
        labels, probabilities = predictions(classes, seed, count=37, levels=levels)
        if seed % 2:  # a class that is never predicted, and one case of another
            probabilities[:, 0] = 0
            labels[labels == 1] = np.where(np.cumsum(labels[labels == 1]) > 1, 0, 1)
        found = classification_measures(labels, probabilities, 0.8)
        assert found == pytest.approx(by_scikit_learn(labels, probabilities, 0.8), abs=1e-12)


@pytest.mark.parametrize("levels", [3, 1e6])
@pytest.mark.parametrize("classes", [2, 4])
def test_scores_of_resamples_are_those_of_the_cases_repeated(classes, levels):
    labels, probabilities = predictions(classes, levels=levels)
    rng = np.random.default_rng(1)
    weights = np.stack([np.ones(90), *(np.bincount(rng.integers(90, size=90), minlength=90) for _ in range(8))])
    found = weighted_measures(labels, probabilities, weights, specificity=0.85)
    for row, counts in enumerate(weights.astype(int)):
        expected = by_scikit_learn(labels.repeat(counts), probabilities.repeat(counts, axis=0), 0.85)
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected, abs=1e-12)


def test_a_resample_that_lacks_a_class_has_no_auc():
    labels, probabilities = predictions(2, count=12)
    found = weighted_measures(labels, probabilities, np.stack([labels == 1, labels == 0, labels >= 0]).astype(float))
    assert np.isnan(found["auc"]).tolist() == np.isnan(found["sensitivity_at_0.9"]).tolist() == [True, True, False]
    low, high = classification_intervals(np.array([0, 0, 0, 1]), probabilities[None, :4])["auc"]
    assert 0 <= low <= high <= 1


def test_the_interval_is_that_of_a_percentile_bootstrap():
    labels, probabilities = predictions(2, count=150)
    one, other = probabilities, predictions(2, seed=9, count=150)[1]
    ours = classification_intervals(labels, one[None], resamples=4000)["auc"]
    paired = {"paired": True, "vectorized": False, "n_resamples": 2000, "method": "percentile", "rng": 3}
    theirs = stats.bootstrap((labels, one[:, 1]), roc_auc_score, **paired).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.012)
    again = classification_intervals(labels, np.stack([one, one]), resamples=4000)["auc"]
    assert again == pytest.approx(ours, abs=1e-12)
    low, high = classification_intervals(labels, np.stack([one, other]), resamples=500)["auc"]
    mean = (roc_auc_score(labels, one[:, 1]) + roc_auc_score(labels, other[:, 1])) / 2
    assert low < mean < high

"""Scores of predicted probabilities, by scikit-learn. docs/reference/classification-metrics.md has the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECIFICITY = 0.9


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
    from sklearn import metrics

    classes = range(probabilities.shape[1])
    predicted = decide(probabilities)
    binary = len(classes) == 2
    average: dict[str, Any] = {"average": "binary" if binary else "macro", "zero_division": 0}
    average |= {} if binary else {"labels": list(classes)}  # also those that nothing was predicted as
    against = [(labels == one, probabilities[:, one]) for one in (classes[1:] if binary else classes)]
    return {
        "auc": float(np.mean([metrics.roc_auc_score(*pair) for pair in against])),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(labels, predicted)),
        "precision": float(metrics.precision_score(labels, predicted, **average)),
        "recall": float(metrics.recall_score(labels, predicted, **average)),
        "f1": float(metrics.f1_score(labels, predicted, **average)),
        "jaccard": float(metrics.jaccard_score(labels, predicted, **average)),
        sensitivity_name(specificity): float(np.mean([_sensitivity(*pair, specificity) for pair in against])),
    }


def decide(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """The class that is predicted: of two the second above one half, of more the most probable one, ties the first."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] > 0.5).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1))


def sensitivity_name(specificity: float) -> str:
    """What the sensitivity at a specificity is called in results."""
    return f"sensitivity_at_{specificity:g}"


def _sensitivity(positive: NDArray[np.bool_], scores: NDArray[np.floating], specificity: float) -> float:
    """The highest sensitivity of any threshold that leaves at least this specificity."""
    from sklearn.metrics import roc_curve

    false_positives, true_positives, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(true_positives[false_positives <= 1 - specificity + 1e-12].max())

"""Logistic regression on one vector a volume, by scikit-learn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.evaluation.classification import classification_measures

#: The inverse strengths of regularisation that are tried.
CS = tuple(10.0**power for power in range(-6, 6))
MOST_ITERATIONS = 1_000

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Logistic:
    """A regression that was chosen.

    Attributes:
        probabilities: of the cases that are tested, ``(N, classes)``.
        c: its inverse strength of regularisation.
        areas: the validation AUC of each of `CS`.
        converged: whether its solver ended within its iterations.
    """

    probabilities: NDArray[np.float64]
    c: float
    areas: list[float]
    converged: bool


def logistic(
    trained: Vectors, validated: Vectors, tested: Vectors, labels: NDArray[np.int64], validation: NDArray[np.int64]
) -> Logistic:
    """Train one regression for each C on standardised features, and take that of the highest validation AUC.

    Of several the one with the smallest C, the most regularised. The validation cases are not trained on.

    Args:
        trained: features to learn from, ``(N, E)``.
        validated: features to choose C by.
        tested: features to predict.
        labels: classes of those to learn from.
        validation: classes of those to choose by.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models, areas = [], []
    for c in CS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=MOST_ITERATIONS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # noted in the result
            model.fit(trained, labels)
        models.append(model)
        areas.append(classification_measures(validation, model.predict_proba(validated))["auc"])
    best = int(np.argmax(areas))
    converged = bool(max(models[best][-1].n_iter_) < MOST_ITERATIONS)
    return Logistic(models[best].predict_proba(tested), CS[best], areas, converged)

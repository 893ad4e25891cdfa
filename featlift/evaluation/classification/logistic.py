"""Logistic regression on one vector a volume, by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.metrics.classification_bootstrap import mean_areas

#: The inverse strengths of regularisation that are tried.
CS = tuple(10.0**power for power in range(-6, 6))
MOST_ITERATIONS = 1_000


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
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    trained: NDArray[np.intp],
    validated: NDArray[np.intp],
    tested: NDArray[np.intp],
    progress: Callable[[int, int], object] | None = None,
) -> Logistic:
    """Train one regression for each C on standardised features, and take that of the highest validation AUC.

    Of several the one with the smallest C, the most regularised. The validation cases are not trained on.

    Args:
        vectors: features of all cases, ``(N, E)``.
        labels: classes of all cases, ``(N,)``.
        trained: which of them to learn from.
        validated: which to choose C by.
        tested: which to predict.
        progress: called after each C, with how many are done and their number.
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
            model.fit(vectors[trained], labels[trained])
        models.append(model)
        if progress is not None:
            progress(len(models), len(CS))
        areas.append(float(mean_areas(labels[validated], model.predict_proba(vectors[validated])[None])[0]))
    best = int(np.argmax(areas))
    converged = bool(max(models[best][-1].n_iter_) < MOST_ITERATIONS)
    return Logistic(models[best].predict_proba(vectors[tested]), CS[best], areas, converged)

"""A linear classifier of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_ITERATIONS = 1000


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """Logits ``weights · feature + bias``, one a label.

    Attributes:
        labels: ascending, K of them.
        weights: ``(K, C)``, of features as they are stored.
        bias: ``(K,)``.
    """

    labels: tuple[int, ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, features: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        """By label, its logit at each cell of ``(C, d, h, w)``."""
        values = np.tensordot(self.weights, features, axes=1) + self.bias[:, None, None, None]
        return dict(zip(self.labels, values, strict=True))


def fit_linear(
    features: NDArray[np.float32], labels: NDArray[np.int32], weights: NDArray[np.float64], c: float
) -> LinearClassifier:
    """Multinomial logistic regression on standardised features: scikit-learn's, by L-BFGS, with an L2 penalty.

    Args:
        features: ``(N, C)``.
        labels: ``(N,)``, two or more of them.
        weights: ``(N,)``, how many samples each one counts as.
        c: inverse of the penalty, as in scikit-learn: the loss is c times the sum over samples, plus half the squared
            norm of the weights on standardised features.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features, sample_weight=weights)  # leaves a constant channel as small as it is
    model = LogisticRegression(C=c, max_iter=_MOST_ITERATIONS)
    model.fit(scaler.transform(features), labels, sample_weight=weights)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn gives one row then, the difference of the two logits
        coefficients, intercepts = (np.concatenate([-values, values]) / 2 for values in (coefficients, intercepts))
    scaled = coefficients / scaler.scale_
    bias = intercepts - scaled @ scaler.mean_
    return LinearClassifier(tuple(model.classes_.tolist()), scaled.astype(np.float32), bias.astype(np.float32))

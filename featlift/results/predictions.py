"""Predicted probabilities, read back from a result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featlift.results.result import Result


def predictions_of(result: Result) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """True classes ``(N,)`` and probabilities ``(seeds, N, classes)`` of a result of k-NN or a probe."""
    classes = result.details["classes"]
    labels = np.array([classes.index(case["label"]) for case in result.cases])
    return labels, np.array([case["probabilities"] for case in result.cases]).swapaxes(0, 1)

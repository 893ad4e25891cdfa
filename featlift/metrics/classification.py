"""Which class probabilities predict, and what scores are called."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPECIFICITY = 0.9


def decide(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """The class that is predicted: of two the second above one half, of more the most probable one, ties the first."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] > 0.5).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1))


def sensitivity_name(specificity: float) -> str:
    """What the sensitivity at a specificity is called in results."""
    return f"sensitivity_at_{specificity:g}"

"""Scores of a map or a prediction against a mask. Exact, ties included, and by sorting only.

scikit-learn gives the same numbers (the tests compare) in ten times the time: its curves are made for samples that have
a weight each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """How well one label of one case was found.

    Attributes:
        dice: of the prediction.
        best_dice: of the map at the threshold that suits this mask best: a bound, not a result.
        best_threshold: that threshold; None for a label without a map.
        auroc: area under the map's receiver operating characteristic over all voxels; None for a mask that fills the
            volume.
    """

    dice: float
    best_dice: float
    best_threshold: float | None
    auroc: float | None


def dice(prediction: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Dice coefficient 2 |P ∩ M| / (|P| + |M|); nan if both are empty, as MONAI's DiceMetric has it."""
    both = np.count_nonzero(prediction & mask)
    total = np.count_nonzero(prediction) + np.count_nonzero(mask)
    return 2 * both / total if total else float("nan")


def best_dice(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The highest Dice of any prediction ``values >= threshold``, and its threshold.

    Args:
        values: ``(D, H, W)``.
        mask: ``(D, H, W)``, not empty.
    """
    inside, outside = np.sort(values[mask]), np.sort(values[~mask])  # the best threshold is the value of some voxel
    true_positives = len(inside) - np.arange(len(inside))  # too few within ties, whose first voxel counts right
    false_positives = len(outside) - np.searchsorted(outside, inside, side="left")
    scores = 2 * true_positives / (true_positives + false_positives + len(inside))
    best = int(scores.argmax())
    return float(scores[best]), float(inside[best])


def auroc(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> float | None:
    """The probability that a voxel inside has a higher value than one outside, ties counting half (Mann-Whitney).

    Args:
        values: ``(D, H, W)``.
        mask: ``(D, H, W)``.

    Returns:
        None where there is no voxel inside, or none outside.
    """
    inside, outside = np.sort(values[mask]), np.sort(values[~mask])
    if not len(inside) or not len(outside):
        return None
    lower = np.searchsorted(outside, inside, side="left").sum(dtype=np.int64)
    not_higher = np.searchsorted(outside, inside, side="right").sum(dtype=np.int64)
    return float((lower + not_higher) / (2 * len(inside) * len(outside)))

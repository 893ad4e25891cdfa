"""Dice and cross-entropy together, and the Dice that validation goes by."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from featlift.segmentation.data.cases import BEYOND

_SMOOTH = 1.0  # voxels: a class that is absent and not predicted costs nothing


def dice_and_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """1 - mean soft Dice of the labels, background aside, over the batch (Milletari 2016), plus cross-entropy.

    Args:
        logits: ``(B, K, D, H, W)``.
        classes: ``(B, D, H, W)``; voxels of class -1 do not count.
    """
    logits = logits.float()
    known = (classes != BEYOND)[:, None]
    truth = torch.zeros_like(logits).scatter_(1, classes.clamp_min(0)[:, None], 1.0) * known
    chances = logits.softmax(dim=1) * known
    over = (0, 2, 3, 4)
    dice = (2 * (chances * truth).sum(over) + _SMOOTH) / (chances.sum(over) + truth.sum(over) + _SMOOTH)
    return 1 - dice[1:].mean() + F.cross_entropy(logits, classes, ignore_index=BEYOND)


def mean_dice(predicted: NDArray[np.integer], classes: NDArray[np.integer]) -> float:
    """Mean Dice of the labels that a case has, background aside; nan without any.

    Args:
        predicted: class of each predicted voxel.
        classes: the true ones; voxels of class -1 do not count.
    """
    from featlift.metrics.scores import dice

    known = classes != BEYOND
    held = [label for label in np.unique(classes) if label > 0]
    return (
        float(np.mean([dice((predicted == label) & known, classes == label) for label in held]))
        if held
        else float("nan")
    )

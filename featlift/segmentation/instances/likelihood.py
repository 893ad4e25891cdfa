"""Predicted affinities as numbers from 0 to 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError

_LEAST_CHANNELS = 3


def as_likelihood(predicted: NDArray[Any]) -> NDArray[np.float32]:
    """Affinities as float32 from 0 to 1, contiguous.

    Args:
        predicted: ``(K, D, H, W)`` with K of 3 or more: from 0 to 1, or uint8 of 0 to 255.

    Raises:
        VolumeError: another shape or type, or values outside.
    """
    if predicted.ndim != 4 or len(predicted) < _LEAST_CHANNELS:
        raise VolumeError(
            f"affinities of {predicted.ndim} axes and {len(predicted)} channels: give (K, D, H, W) with three or more"
        )
    if predicted.dtype == np.uint8:
        likelihood = predicted.astype(np.float32)
        likelihood /= 255
        return likelihood
    if predicted.dtype.kind != "f" or not (predicted.min() >= 0 and predicted.max() <= 1):  # false for nan too
        raise VolumeError(f"affinities are from 0 to 1, or uint8 of 0 to 255; these are {predicted.dtype} or beyond")
    return np.ascontiguousarray(predicted, np.float32)

"""Affinities to objects by the mutex watershed: long offsets forbid merges, without a threshold (Wolf et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.segmentation.instances.affinities import Offset, check_offsets
from featlift.segmentation.instances.likelihood import as_likelihood


def mutex_watershed(
    predicted: NDArray[Any], offsets: Sequence[Offset], bias: float | Sequence[float] = 0.5
) -> NDArray[np.uint64]:
    """Objects from attractive and repulsive edges, the strongest first.

    An edge attracts where its affinity is above the bias, and repels where it is below. By mwatershed.

    Args:
        predicted: ``(K, D, H, W)``: 0 to 1, or uint8 of 0 to 255.
        offsets: of the K channels.
        bias: of all channels, or of each: a higher one of long offsets lets fewer objects merge.

    Returns:
        ``(D, H, W)``, ids from 1.

    Raises:
        OptionError: mwatershed is not installed, offsets or biases of another number than channels, or an offset that
            is larger than the volume.
        VolumeError: see `as_likelihood`.
    """
    agglom = _agglom()
    likelihood = as_likelihood(predicted)
    if len(offsets) != len(likelihood):
        raise OptionError(f"{len(offsets)} offsets for affinities of {len(likelihood)} channels")
    check_offsets(offsets, likelihood.shape[1:])
    biases = np.asarray(bias, np.float64)
    if biases.shape not in ((), (len(offsets),)):
        raise OptionError(f"{biases.size} biases for affinities of {len(offsets)} channels")
    edges = likelihood.astype(np.float64) - biases.reshape(-1, 1, 1, 1)
    found: NDArray[np.uint64] = agglom(edges, [list(offset) for offset in offsets])
    return found


def _agglom() -> Any:
    try:
        from mwatershed import agglom
    except ImportError as error:
        raise OptionError("the mutex watershed needs mwatershed: pip install 'featlift[em]'") from error
    return agglom

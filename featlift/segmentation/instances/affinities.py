"""Which neighbours are of one object: what a network learns in the place of ids, which are arbitrary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError

#: (d, h, w) from a voxel to the one that it is compared with.
Offset = tuple[int, int, int]

#: The three neighbours before a voxel: what waterz takes.
NEIGHBOURS: tuple[Offset, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
#: Those and farther ones, fewer sections than pixels apart, as sections are thick (Lee et al. 2017, arXiv 1706.00120).
LONG_RANGE: tuple[Offset, ...] = (
    *NEIGHBOURS,
    *((-2, 0, 0), (0, -3, 0), (0, 0, -3)),
    *((-3, 0, 0), (0, -9, 0), (0, 0, -9)),
    *((-4, 0, 0), (0, -27, 0), (0, 0, -27)),
)

_LEAST_SHARE, _LARGEST_SHARE = 0.05, 0.99  # of affinities that are 1, in their weights


def affinities(labels: NDArray[Any], offsets: Sequence[Offset] = NEIGHBOURS) -> NDArray[np.uint8]:
    """1 where a voxel and the one at an offset are of one object; 0 elsewhere, also where one is of none or outside.

    Widen the borders first, see `widened`: between objects that touch, an affinity is 0 for a single pixel, which a
    network blurs and fragments then leak through.

    Args:
        labels: ``(D, H, W)`` ids, 0 where there is no object.
        offsets: K of them.

    Returns:
        ``(K, D, H, W)``.

    Raises:
        VolumeError: ids that are no whole numbers.
        OptionError: an offset of nothing, or larger than the volume.
    """
    if labels.dtype.kind not in "biu":
        raise VolumeError(f"labels are {labels.dtype}: ids of objects are whole numbers")
    check_offsets(offsets, labels.shape)
    found = np.zeros((len(offsets), *labels.shape), np.uint8)
    for affinity, offset in zip(found, offsets, strict=True):
        here = tuple(slice(max(0, -step), size - max(0, step)) for step, size in zip(offset, labels.shape, strict=True))
        there = tuple(
            slice(max(0, step), size - max(0, -step)) for step, size in zip(offset, labels.shape, strict=True)
        )
        affinity[here] = (labels[here] == labels[there]) & (labels[here] > 0)
    return found


def widened(labels: NDArray[Any], radius: int = 1) -> NDArray[Any]:
    """Labels with gaps between objects: 0 where a window in the section holds more than one label.

    Args:
        labels: ``(D, H, W)``.
        radius: of the square window, whose side is 2 radius + 1 pixels.

    Returns:
        ``(D, H, W)``, a copy.
    """
    found = labels.copy()
    height, width = labels.shape[1:]
    for section, gapped in zip(labels, found, strict=True):
        around = np.pad(section, radius, mode="edge")
        for down in range(2 * radius + 1):
            for right in range(2 * radius + 1):
                gapped[around[down : down + height, right : right + width] != section] = 0
    return found


def class_weights(affinity: NDArray[Any]) -> tuple[float, float]:
    """What errors at ones and at zeros weigh, so that the rarer kind counts as much as the other.

    Args:
        affinity: of one offset, of ones and zeros.

    Returns:
        The weights of ones and of zeros, the smaller of which is 1. The share of ones is taken as 0.05 to 0.99.
    """
    return weights_of_share(float(affinity.mean(dtype=np.float64)))


def weights_of_share(share: float) -> tuple[float, float]:
    """`class_weights` of so large a share of ones."""
    share = min(max(share, _LEAST_SHARE), _LARGEST_SHARE)
    return (1.0, share / (1 - share)) if share > 0.5 else ((1 - share) / share, 1.0)


def check_offsets(offsets: Sequence[Offset], shape: Sequence[int]) -> None:
    """Refuse offsets that pair no voxels of a volume.

    Raises:
        OptionError: an offset of nothing, or larger than the volume.
    """
    for offset in offsets:
        if not any(offset):
            raise OptionError("the offset (0, 0, 0) compares a voxel with itself")
        if any(abs(step) >= size for step, size in zip(offset, shape, strict=True)):
            raise OptionError(f"the offset {offset} is larger than the volume of {' x '.join(map(str, shape))} voxels")

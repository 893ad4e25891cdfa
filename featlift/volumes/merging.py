"""Several masks to one array of labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.grid import Shape


def merged(shape: Shape, structures: Iterable[tuple[int, NDArray[np.bool_]]]) -> NDArray[np.int32]:
    """Structures with their labels to one array. A voxel of several goes to the smallest: the tumour in the organ.

    Args:
        shape: (D, H, W).
        structures: label and voxels ``(D, H, W)`` of each, taken one after the other; a label may stand several times.

    Returns:
        ``(D, H, W)``, 0 for background.
    """
    owners = np.zeros(shape, np.int32).reshape(-1)
    sizes, labels = [owners.size + 1], [0]
    for label, voxels in structures:
        places = np.flatnonzero(voxels)
        won = places[np.array(sizes)[owners[places]] > len(places)]
        owners[won] = len(labels)
        sizes.append(len(places))
        labels.append(label)
    return np.array(labels, np.int32)[owners].reshape(shape)


def binary(array: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """The voxels of a mask of one structure, which holds 0 and one other value.

    Raises:
        VolumeError: it holds more.
    """
    found: NDArray[np.bool_] = array != 0
    values = array[found]
    if values.size and not (values == values[0]).all():
        raise VolumeError(
            f"{name} is no mask of one structure: it holds values from {values.min():g} to {values.max():g}"
        )
    return found


def one_hot(channels: Sequence[NDArray[Any]]) -> NDArray[np.int32]:
    """One-hot channels ``(D, H, W)``: channel k is label k + 1, or k where channel 0 is what the others leave.

    Raises:
        VolumeError: a channel is not binary, or two of them overlap.
    """
    first, *others = (binary(channel, f"channel {number}") for number, channel in enumerate(channels))
    covered = np.sum([*others], axis=0, dtype=np.uint8) if others else np.zeros(first.shape, np.uint8)
    is_background = bool(others) and np.array_equal(first, covered == 0)
    if not is_background:
        covered += first
    if (shared := np.count_nonzero(covered > 1)) > 0:
        raise VolumeError(f"its channels overlap in {shared:,} voxels, so they are not one-hot: give one file a label")
    labels = np.zeros(first.shape, np.int32)
    for label, channel in enumerate(others if is_background else [first, *others], start=1):
        labels[channel] = label
    return labels

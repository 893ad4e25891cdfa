"""Fragments: small pieces of objects, section by section, which agglomeration merges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.segmentation.instances.likelihood import as_likelihood

_BORDER = 0.5  # from which a pixel is border


def fragments_of(predicted: NDArray[Any]) -> NDArray[np.uint64]:
    """Seeded watershed of every section on the likelihood of a border, 1 - (a_h + a_w) / 2.

    Seeds are where the distance to the border is largest. Sections are thick, so that fragments of one never reach into
    the next. Needs affinities that were learnt from labels with widened borders, otherwise fragments leak.

    Args:
        predicted: ``(K, D, H, W)``, affinities of `NEIGHBOURS` first: 0 to 1, or uint8 of 0 to 255.

    Returns:
        ``(D, H, W)``, ids from 1, none in two sections.

    Raises:
        VolumeError: see `as_likelihood`.
    """
    from scipy.ndimage import distance_transform_edt, label
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    found = np.zeros(predicted.shape[1:], np.uint64)
    count = 0
    for depth, section in enumerate(found):
        _, down, right = as_likelihood(predicted[:3, depth : depth + 1])[:, 0]
        border = 1 - (down + right) / 2
        distance = distance_transform_edt(border < _BORDER)
        seeds, number = label(local_maxima(distance, connectivity=1))
        if number == 0:  # nothing but border, or none at all: one fragment
            seeds, number = np.ones(section.shape, np.int32), 1
        section[:] = watershed(border, seeds, connectivity=1)
        section += np.uint64(count)
        count += number
    return found

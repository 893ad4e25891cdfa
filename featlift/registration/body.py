"""Where the body is in a scan: what lies around it does not count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_COARSE = 128  # voxels a side on which the body is looked for


def body_of(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The largest piece brighter than Otsu's threshold, its holes filled slice by slice along every axis.

    For whole scans with air around them; of a crop it is what happens to be bright. Looked for in every n-th voxel,
    128 along an axis.

    Args:
        image: ``(D, H, W)``.

    Returns:
        ``(D, H, W)``; all of it where every voxel is the same.
    """
    from scipy.ndimage import binary_fill_holes, label
    from skimage.filters import threshold_otsu

    steps = [max(1, -(-size // _COARSE)) for size in image.shape]
    coarse = image[tuple(slice(step // 2, None, step) for step in steps)]
    low, high = np.percentile(coarse, (0.5, 99.5))  # metal and padding would draw the threshold
    if low == high:
        return np.ones(image.shape, np.bool_)
    pieces, _ = label(coarse > threshold_otsu(coarse.clip(low, high)))
    body: NDArray[np.bool_] = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    for axis in range(3):  # lungs are open to the outside in three dimensions, not in a slice
        for slice_ in np.moveaxis(body, axis, 0):
            slice_[:] = binary_fill_holes(slice_)
    for axis, (step, size) in enumerate(zip(steps, image.shape, strict=True)):
        nearest = np.minimum(np.arange(size) // step, body.shape[axis] - 1)
        body = body.take(nearest, axis=axis)
    return body

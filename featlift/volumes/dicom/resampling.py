"""Bring slices that lie at irregular places onto a regular grid along their normal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featlift.volumes.dicom.geometry import Grid


def resampled(volume: NDArray[np.float32], grid: Grid, count: int) -> NDArray[np.float32]:
    """Resample ``(n, H, W)``, the slices of `grid`, to `count` slices at equal steps from the first to the last.

    A tilted stack is put upright first: each slice is shifted back in plane, its edges repeated where nothing is
    known. Between two slices, the new ones are linear. `volume` is overwritten.
    """
    if grid.is_tilted:
        from scipy.ndimage import shift

        for one, pixels in zip(volume, grid.shifts / np.array(grid.stack[0].spacing), strict=True):
            one[:] = shift(one, pixels, order=1, mode="nearest")
    heights = np.linspace(grid.heights[0], grid.heights[-1], count)
    above = np.clip(np.searchsorted(grid.heights, heights), 1, len(grid.heights) - 1)
    low, high = grid.heights[above - 1], grid.heights[above]
    weights = ((heights - low) / (high - low)).astype(np.float32)
    regular = np.empty((count, *volume.shape[1:]), np.float32)
    for one, upper, weight in zip(regular, above, weights, strict=True):
        one[:] = (1 - weight) * volume[upper - 1] + weight * volume[upper]
    return regular

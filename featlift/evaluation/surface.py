"""How far the surface of a prediction is from that of a mask, in millimetres. MONAI measures it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces: nan if neither mask has a voxel, infinite if one of them has none.

    Attributes:
        hd95: 95th percentile of the Hausdorff distance: of the distances from each surface to the other, the larger of
            the two 95th percentiles.
        asd: average symmetric surface distance: the mean of the distances of both surfaces.
    """

    hd95: float
    asd: float


def surface_distances(
    prediction: NDArray[np.bool_], mask: NDArray[np.bool_], spacing: Sequence[float]
) -> SurfaceDistances:
    """HD95 and ASD as MONAI defines them.

    A surface is the voxels of a mask that share a face with a voxel outside it, or with the outside of the volume.
    Distances are between the centres of voxels.

    Args:
        prediction: ``(D, H, W)``.
        mask: ``(D, H, W)``.
        spacing: (d, h, w) in mm.
    """
    from scipy.ndimage import find_objects

    filled = bool(prediction.any()), bool(mask.any())
    if not all(filled):
        missing = float("inf") if any(filled) else float("nan")
        return SurfaceDistances(missing, missing)
    (box,) = find_objects((prediction | mask).astype(np.uint8))  # the rest would be copied as float32, several times
    one, other = prediction[box][None, None], mask[box][None, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that MONAI itself imports
        from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
    options = {"include_background": True, "spacing": tuple(spacing)}
    hd95 = compute_hausdorff_distance(one, other, percentile=95, **options)
    asd = compute_average_surface_distance(one, other, symmetric=True, **options)
    return SurfaceDistances(float(hd95), float(asd))

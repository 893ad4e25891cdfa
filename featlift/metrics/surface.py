"""How far the surface of a prediction is from that of a mask, in millimetres: HD95 and ASD, as MONAI defines them.

Beside them HD95 as MedPy defines it.
"""

from __future__ import annotations

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
        hd95_pooled: 95th percentile of the distances of both surfaces together, which MedPy calls hd95.
    """

    hd95: float
    asd: float
    hd95_pooled: float


def surface_distances(
    prediction: NDArray[np.bool_], mask: NDArray[np.bool_], spacing: Sequence[float]
) -> SurfaceDistances:
    """HD95 by both definitions, and ASD, see docs/reference/surface-metrics.md.

    A surface is the voxels of a mask that share a face with a voxel outside it, or with the outside of the volume.
    Distances are between the centres of voxels.

    Args:
        prediction: ``(D, H, W)``.
        mask: ``(D, H, W)``.
        spacing: (d, h, w) in mm.
    """
    from scipy.spatial import KDTree

    one, other = _surface(prediction, spacing), _surface(mask, spacing)
    if not len(one) or not len(other):
        missing = float("inf") if len(one) or len(other) else float("nan")
        return SurfaceDistances(missing, missing, missing)
    there, back = KDTree(other).query(one)[0], KDTree(one).query(other)[0]
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    both = np.concatenate([there, back])
    return SurfaceDistances(float(hd95), float(both.mean()), float(np.percentile(both, 95)))


def _surface(mask: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Centres of the voxels of a surface, ``(N, 3)`` in mm."""
    from scipy.ndimage import binary_erosion, find_objects

    if not mask.any():
        return np.empty((0, 3))
    (box,) = find_objects(mask.astype(np.uint8))
    part = mask[box]
    voxels = np.argwhere(part & ~binary_erosion(part)) + [axis.start for axis in box]
    centres: NDArray[np.float64] = voxels * np.asarray(spacing, dtype=np.float64)
    return centres

"""How plausible and how right a displacement field is. docs/reference/field-metrics.md has the formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EDGE = 2  # voxels at each end of an axis that do not count: differences are one-sided there
_SLAB = 16  # slices at a time
_LEAST, _MOST = 1e-9, 1e9  # of a determinant whose logarithm is taken


def jacobian_determinants(displacement: NDArray[Any]) -> NDArray[np.float64]:
    """det(I + grad u) at every voxel, by central differences, one-sided at the edges: 1 where nothing is squeezed.

    Args:
        displacement: u, ``(3, D, H, W)`` in voxels along (d, h, w). An axis of one voxel is left out.

    Returns:
        ``(D, H, W)``.
    """
    determinants = np.empty(displacement.shape[1:])
    for start in range(0, len(determinants), _SLAB):  # nine numbers a voxel of a CT would take gigabytes
        first = max(0, start - 1)
        found = _determinants(displacement[:, first : start + _SLAB + 1])
        determinants[start : start + _SLAB] = found[start - first :][:_SLAB]
    return determinants


def _determinants(displacement: NDArray[Any]) -> NDArray[np.float64]:
    """`jacobian_determinants` of a few slices, right but for those at its ends that have a neighbour elsewhere."""
    axes = [axis for axis, size in enumerate(displacement.shape[1:]) if size > 1]
    jacobian = np.zeros((*displacement.shape[1:], 3, 3))
    jacobian[..., range(3), range(3)] = 1
    for component in axes:
        values = displacement[component].astype(np.float64)
        for axis in axes:
            jacobian[..., component, axis] += np.gradient(values, axis=axis)
    determinants: NDArray[np.float64] = np.linalg.det(jacobian)
    return determinants


def regularity(displacement: NDArray[Any]) -> tuple[float, float]:
    """`sdlogj` and `folds` of a field, whose determinants are computed once.

    Args:
        displacement: ``(3, D, H, W)`` in voxels.
    """
    determinants = _interior(displacement)
    return _sd_of_logarithm(determinants), _share_of_folds(determinants)


def sdlogj(displacement: NDArray[Any]) -> float:
    """Standard deviation of the logarithm of the Jacobian determinant, two voxels at every edge left out.

    Args:
        displacement: ``(3, D, H, W)`` in voxels.
    """
    return _sd_of_logarithm(_interior(displacement))


def folds(displacement: NDArray[Any]) -> float:
    """Share of the voxels where the field turns space inside out, two at every edge left out.

    Args:
        displacement: ``(3, D, H, W)`` in voxels.
    """
    return _share_of_folds(_interior(displacement))


def _sd_of_logarithm(determinants: NDArray[np.float64]) -> float:
    return float(np.log(np.clip(determinants, _LEAST, _MOST)).std())


def _share_of_folds(determinants: NDArray[np.float64]) -> float:
    return float((determinants <= 0).mean())


def _interior(displacement: NDArray[Any]) -> NDArray[np.float64]:
    within = (slice(_EDGE, -_EDGE) if size > 2 * _EDGE else slice(None) for size in displacement.shape[1:])
    return jacobian_determinants(displacement)[tuple(within)]


def target_registration_errors(
    displacement: NDArray[Any],
    fixed: NDArray[Any],
    moving: NDArray[Any],
    spacing: Sequence[float] = (1, 1, 1),
) -> NDArray[np.float64]:
    """How far from its partner each landmark is taken: |(p + u(p) - q) * spacing|, u linear between voxels.

    Args:
        displacement: ``(3, D, H, W)`` in voxels.
        fixed: landmarks p, ``(N, 3)`` indices (d, h, w).
        moving: their partners q, ``(N, 3)``.
        spacing: (d, h, w) in mm.

    Returns:
        ``(N,)`` in mm.
    """
    from scipy.ndimage import map_coordinates

    at = np.asarray(fixed, np.float64)
    there = at + np.stack(
        [map_coordinates(each, at.T, np.float64, order=1, mode="nearest") for each in displacement], 1
    )
    errors: NDArray[np.float64] = np.linalg.norm((there - moving) * np.asarray(spacing), axis=1)
    return errors

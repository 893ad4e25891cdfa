"""The field that leads back: from the moving scan to the fixed one."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from featlift.registration.field import DisplacementField
from featlift.registration.transforms import LinearTransform, inverse, places_of_slice
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine

_MOST = 50  # steps
_NEAR = 0.01  # of a voxel: steps that are shorter end it


def inverted(field: DisplacementField, shape: Shape, onto: Affine, affine: Affine | None = None) -> DisplacementField:
    """Where each voxel of the moving scan is found in the fixed one.

    The fixed-point iteration of Chen et al., "A simple fixed-point approach to invert a deformation field" (2008),
    after the affine stage is undone: with ``A`` that stage, ``u`` what comes before it and x a place of the moving
    scan, ``y <- A^-1(x) - u(y)``. It converges where u changes by less than a voxel from voxel to voxel, which is
    where nothing folds. Beyond the field its outermost voxels are continued.

    Args:
        field: of the whole chain, from the fixed to the moving scan.
        shape: (D, H, W) of the moving scan.
        onto: affine of the moving scan.
        affine: 4x4 of the affine stage that the field holds; None for none.

    Returns:
        On the voxels of the moving scan.
    """
    back = LinearTransform(np.eye(4) if affine is None else inverse(affine))
    to_field = inverse(field.affine)
    steps = torch.from_numpy(_before(field, back))[None]
    vectors = np.empty((3, *shape), np.float32)
    for number in range(shape[0]):
        places = places_of_slice(number, shape, onto)
        start = LinearTransform(to_field).moved(back.moved(places))
        there = LinearTransform(field.affine).moved(_fixed_point(steps, torch.from_numpy(start)).numpy())
        vectors[:, number] = (there - places).reshape(3, *shape[1:])
    return DisplacementField(vectors, onto)


def _before(field: DisplacementField, back: LinearTransform) -> NDArray[np.float32]:
    """The displacement before the affine stage, in voxels of the field, ``(3, D, H, W)``."""
    to_field = LinearTransform(inverse(field.affine))
    steps = np.empty_like(field.vectors)
    for number in range(field.shape[0]):
        places = places_of_slice(number, field.shape, field.affine)
        there = places + field.vectors[:, number].reshape(3, -1)
        steps[:, number] = (to_field.moved(back.moved(there)) - to_field.moved(places)).reshape(3, *field.shape[1:])
    return steps


def _fixed_point(steps: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Places y ``(3, N)`` in voxels with ``y + u(y) = start``, u being ``(1, 3, D, H, W)``."""
    size = torch.tensor(steps.shape[2:], dtype=torch.float64)[:, None]
    place = start
    for _ in range(_MOST):
        at = ((2 * place + 1) / size - 1).flip(0).T.to(steps.dtype)  # as torch counts, the fastest axis first
        found = F.grid_sample(steps, at[None, None, None], padding_mode="border", align_corners=False)
        place, before = start - found.reshape(3, -1).to(torch.float64), place
        if float((place - before).abs().max()) < _NEAR:
            break
    return place

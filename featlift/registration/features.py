"""What two scans are compared by: MIND, features of a network, or both, on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.store.case import CaseLayer
from featlift.store.features import features_of
from featlift.store.principal import Covariance
from featlift.volumes.grid import Shape, on_grid
from featlift.volumes.volume import Affine

#: Mean squared distance of MIND-SSC (radius 1, dilation 2) between two places of two scans. It hardly depends on the
#: scans: 2.25 to 2.30 in four pairs of hippocampi. All numbers of ConvexAdam were chosen for features like that.
TYPICAL = 2.27

Pair = tuple[torch.Tensor, torch.Tensor]

#: Which places of the fixed and of the moving scan are in the body, ``(D, H, W)`` each.
Bodies = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def principal_features(
    fixed: CaseLayer, moving: CaseLayer, components: int = 24, centred: bool = True, bodies: Bodies | None = None
) -> list[NDArray[np.float32]]:
    """The features of both scans in the principal components that they share.

    Args:
        fixed: a case, which is its deepest layer, or another layer of one.
        moving: the same layer of a case made in the same way.
        components: how many are kept; fewer where there are fewer channels.
        centred: subtract the mean, otherwise project features as they are, as DINO-Reg does. Their differences are the
            same; only what lies beyond the edges, 0, is another.
        bodies: which cells the components are of; None for all.

    Returns:
        ``(K, d, h, w)`` for each.

    Raises:
        OptionError: not as many cells as components.
    """
    dense = [features_of(layer) for layer in (fixed, moving)]
    covariance = Covariance(len(dense[0]))
    for number, values in enumerate(dense):
        cells = values.reshape(len(values), -1).T
        covariance.add(cells if bodies is None else cells[bodies[number].ravel()])
    if covariance.count <= components:
        raise OptionError(f"{components} components: both scans have {covariance.count} feature cells, ask for fewer")
    basis = covariance.principal(components)
    shift = basis.components @ basis.mean if centred else np.zeros(len(basis.components), np.float32)
    return [np.tensordot(basis.components, each, axes=1) - shift[:, None, None, None] for each in dense]


def on_common_grid(cells: NDArray[np.float32], affine: Affine, shape: Shape, onto: Affine) -> torch.Tensor:
    """Features ``(K, d, h, w)`` at the voxels of a grid: linear, the outermost cells continued. ``(K, D, H, W)``."""
    return torch.from_numpy(np.stack([on_grid(each, affine, shape, onto, order=1, fill_value=None) for each in cells]))


def typical_distance(fixed: torch.Tensor, moving: torch.Tensor) -> float:
    """Mean squared distance of the features of a place of one scan and a place of the other, over all such pairs.

    Args:
        fixed: ``(C, D, H, W)``.
        moving: ``(C, D, H, W)``.
    """
    one, other = fixed.flatten(1), moving.flatten(1)
    spread = one.var(dim=1, correction=0) + other.var(dim=1, correction=0)
    return float((spread + (one.mean(dim=1) - other.mean(dim=1)).square()).sum())


def at_typical_distance(fixed: torch.Tensor, moving: torch.Tensor, bodies: Bodies | None = None) -> Pair:
    """Features scaled to `TYPICAL`, inside of the bodies; those that are the same everywhere are left as they are."""
    if bodies is None:
        now = typical_distance(fixed, moving)
    else:
        one, other = (torch.from_numpy(body).to(fixed.device) for body in bodies)
        now = typical_distance(fixed[:, one], moving[:, other])
    scale = (TYPICAL / now) ** 0.5 if now > 0 else 1.0
    return fixed * scale, moving * scale


def within_bodies(pair: Pair, bodies: Bodies | None) -> Pair:
    """Features that are 0 outside of the bodies, in place: there nothing differs from anything."""
    if bodies is not None:
        for features, body in zip(pair, bodies, strict=True):
            features.mul_(torch.from_numpy(body).to(features.device))
    return pair


def side_by_side(parts: Sequence[Pair]) -> Pair:
    """Several features as one, each of them an equal part of the distance, which stays what it is of one."""
    if len(parts) == 1:
        return parts[0]
    share = len(parts) ** -0.5
    fixed, moving = (torch.cat(each).mul_(share) for each in zip(*parts, strict=True))
    return fixed, moving

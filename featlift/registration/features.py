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


def principal_features(
    fixed: CaseLayer, moving: CaseLayer, components: int = 24, centred: bool = True
) -> list[NDArray[np.float32]]:
    """The features of both scans in the principal components that they share.

    Args:
        fixed: a case, which is its deepest layer, or another layer of one.
        moving: the same layer of a case made in the same way.
        components: how many are kept; fewer where there are fewer channels.
        centred: subtract the mean, otherwise project features as they are, as DINO-Reg does. Their differences are the
            same; only what lies beyond the edges, 0, is another.

    Returns:
        ``(K, d, h, w)`` for each.

    Raises:
        OptionError: not as many cells as components.
    """
    dense = [features_of(layer) for layer in (fixed, moving)]
    covariance = Covariance(len(dense[0]))
    for values in dense:
        covariance.add(values.reshape(len(values), -1).T)
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


def at_typical_distance(fixed: torch.Tensor, moving: torch.Tensor) -> Pair:
    """Features scaled to `TYPICAL`; those that are the same everywhere are left as they are."""
    now = typical_distance(fixed, moving)
    scale = (TYPICAL / now) ** 0.5 if now > 0 else 1.0
    return fixed * scale, moving * scale


def side_by_side(parts: Sequence[Pair]) -> Pair:
    """Several features as one, each of them an equal part of the distance, which stays what it is of one."""
    if len(parts) == 1:
        return parts[0]
    share = len(parts) ** -0.5
    fixed, moving = (torch.cat(each).mul_(share) for each in zip(*parts, strict=True))
    return fixed, moving

"""The first half of ConvexAdam: every displacement is tried, and the best ones that agree with their neighbours stay.

Siebert et al., "ConvexAdam: Self-Configuring Dual-Optimisation-Based 3D Multitask Medical Image Registration" (2024);
the coupled convex search is that of Steinbruecker et al. (2009) and Heinrich et al. (2014). Grids here are of cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from featlift.registration.sampling import box_mean, sampled, shape_of

_COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_AGREEING = 15  # steps towards fields that are each other's inverse


def displacements(reach: int, cells: torch.Tensor) -> torch.Tensor:
    """What is tried: ``(3, K)``, every displacement by up to `reach` whole cells along (d, h, w), d running fastest.

    Along an axis of one cell there is none.
    """
    steps = [torch.arange(-far, far + 1) for far in (reach if size > 1 else 0 for size in shape_of(cells))]
    w, h, d = torch.meshgrid(*reversed(steps), indexing="ij")
    return torch.stack([d, h, w]).flatten(1).to(cells)


def cost_volume(fixed: torch.Tensor, moving: torch.Tensor, tried: torch.Tensor) -> torch.Tensor:
    """Squared differences of the features of every cell and its displaced partner, smoothed over their neighbours.

    Beyond the edges features are 0. One displacement is computed at a time, so that little more memory is taken than
    that of the costs.

    Args:
        fixed: features ``(C, d, h, w)``.
        moving: features ``(C, d, h, w)``.
        tried: displacements ``(3, K)`` in whole cells.

    Returns:
        ``(K, d, h, w)``.
    """
    depth, height, width = shape_of(fixed)
    reach = [int(far) for far in tried.amax(dim=1)]
    padded = F.pad(moving, [far for far in reversed(reach) for _ in range(2)])
    costs = fixed.new_empty(tried.shape[1], depth, height, width)
    for cost, displacement in zip(costs, tried.T.long().tolist(), strict=True):
        d, h, w = (far + step for far, step in zip(reach, displacement, strict=True))
        there = padded[:, d : d + depth, h : h + height, w : w + width]
        cost.copy_(box_mean((fixed - there).square().sum(dim=0), times=2))
    return costs


def coupled_convex(costs: torch.Tensor, tried: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """A smooth field of low cost: cells choose their best displacement, ever closer to the mean of their neighbours'.

    Args:
        costs: ``(K, d, h, w)``.
        tried: displacements ``(3, K)`` in cells.
        edges: ``(3,)`` of a cell; the distance between displacements is measured so.

    Returns:
        ``(3, d, h, w)`` in cells.
    """
    smooth = box_mean(tried[:, costs.argmin(dim=0)])
    lengths = tried * edges[:, None]
    for coupling in _COUPLINGS:
        best = [
            (plane + coupling * _squared_distances(lengths, around)).argmin(dim=0)
            for plane, around in zip(costs.unbind(1), (smooth * edges[:, None, None, None]).unbind(1), strict=True)
        ]
        smooth = box_mean(tried[:, torch.stack(best)])
    return smooth


def _squared_distances(tried: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
    """From every displacement ``(3, K)`` to those of a plane ``(3, h, w)``: ``(K, h, w)``."""
    return torch.stack([(one[:, None, None] - at).square() for one, at in zip(tried, around, strict=True)]).sum(dim=0)


def consistent(forward: torch.Tensor, backward: torch.Tensor, stretched: bool = False) -> torch.Tensor:
    """The forward field after both were drawn towards each other's inverse.

    Args:
        forward: ``(3, d, h, w)`` from fixed to moving, in cells.
        backward: from moving to fixed.
        stretched: see `sampled`.
    """
    for _ in range(_AGREEING):
        forward, backward = (
            (forward - sampled(backward, forward, stretched)) / 2,
            (backward - sampled(forward, backward, stretched)) / 2,
        )
    return forward


def search(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    reach: int,
    edges: torch.Tensor,
    inverse: bool = True,
    stretched: bool = False,
) -> torch.Tensor:
    """The field that the search finds from fixed to moving.

    Args:
        fixed: features of cells ``(C, d, h, w)``.
        moving: features of cells ``(C, d, h, w)``.
        reach: the farthest displacement that is tried along an axis, in cells.
        edges: ``(3,)`` of a cell, 1 for the shortest.
        inverse: search from moving to fixed as well and make both consistent, in twice the time.
        stretched: see `sampled`.

    Returns:
        ``(3, d, h, w)`` in cells.
    """
    tried = displacements(reach, fixed)
    forward = coupled_convex(cost_volume(fixed, moving, tried), tried, edges)
    if not inverse:
        return forward
    backward = coupled_convex(cost_volume(moving, fixed, tried), tried, edges)
    return consistent(forward, backward, stretched)

"""The second half of ConvexAdam: a displacement grid moved by Adam until features meet and neighbours agree."""

from __future__ import annotations

from collections.abc import Callable

import torch

from featlift.registration.sampling import box_mean, sampled

#: Told of each iteration, from 1 on, and of their number.
Told = Callable[[int, int], object]

_RATE = 1.0  # Adam's: a cell a step


def refined(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    start: torch.Tensor,
    edges: torch.Tensor,
    weight: float = 1.25,
    iterations: int = 80,
    stretched: bool = False,
    told: Told | None = None,
) -> torch.Tensor:
    """The field of the last iteration.

    What Adam moves is smoothed by three means over boxes of 3 x 3 x 3 before it is used.

    Args:
        fixed: features of cells ``(C, d, h, w)``.
        moving: features of cells ``(C, d, h, w)``.
        start: displacement to begin with, ``(3, d, h, w)`` in cells.
        edges: ``(3,)`` of a cell, 1 for the shortest.
        weight: of the regulariser.
        iterations: at least one.
        stretched: see `sampled`.
        told: of each iteration.

    Returns:
        ``(3, d, h, w)`` in cells.
    """
    free = start.new_tensor([size > 1 for size in start.shape[1:]])[
        :, None, None, None
    ]  # a slice does not leave itself
    moved = start.clone().requires_grad_()
    adam = torch.optim.Adam([moved], lr=_RATE)
    field = start
    for iteration in range(1, iterations + 1):
        adam.zero_grad()
        field = box_mean(moved, times=3) * free
        loss = distance(fixed, sampled(moving, field, stretched)) + weight * diffusion(field, edges)
        loss.backward()
        adam.step()
        if told is not None:
            told(iteration, iterations)
    return field.detach()


def distance(fixed: torch.Tensor, warped: torch.Tensor) -> torch.Tensor:
    """Mean over the cells of the squared distance of their features, ``(C, d, h, w)`` both."""
    return (warped - fixed).square().sum(dim=0).mean()


def diffusion(field: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """How much a displacement changes from cell to cell: mean squares of its differences, summed over the axes.

    Displacements and steps count by the edges of a cell, so that it is the gradient of a field in millimetres.

    Args:
        field: ``(3, d, h, w)`` in cells.
        edges: ``(3,)`` of a cell.
    """
    axes = [axis for axis, size in enumerate(field.shape[1:]) if size > 1]
    lengths = (field * edges[:, None, None, None])[axes]
    changes = [(lengths.diff(dim=axis + 1) / edges[axis]).square().mean() for axis in axes]
    return torch.stack(changes).sum()

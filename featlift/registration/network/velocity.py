"""From a velocity that does not change to the displacement it leads to: scaling and squaring."""

from __future__ import annotations

import torch

from featlift.registration.sampling import sampled


def integrated(velocity: torch.Tensor, steps: int = 7) -> torch.Tensor:
    """Where everything is after a unit of time.

    A small enough part of the way is a straight line; a way put after itself is twice as long (Arsigny et al. 2006,
    with the seven steps of VoxelMorph). Velocities are 0 beyond the edges.

    Args:
        velocity: ``(3, D, H, W)`` in voxels along (d, h, w).
        steps: of squaring.

    Returns:
        The displacement, ``(3, D, H, W)`` in voxels.
    """
    field: torch.Tensor = velocity * 0.5**steps
    for _ in range(steps):
        field = field + sampled(field, field)
    return field

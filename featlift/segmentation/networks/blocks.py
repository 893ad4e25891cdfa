"""What the networks are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolutions(channels: int, width: int) -> nn.Sequential:
    """Two 3x3x3 convolutions, each with group norm and GELU."""
    return nn.Sequential(
        nn.Conv3d(channels, width, 3, padding=1, bias=False),
        nn.GroupNorm(groups_of(width), width),
        nn.GELU(),
        nn.Conv3d(width, width, 3, padding=1, bias=False),
        nn.GroupNorm(groups_of(width), width),
        nn.GELU(),
    )


class DepthTable(nn.Module):
    """A learned vector for each place along depth; between the places of the table it is interpolated linearly.

    Args:
        channels: of a vector.
        places: of the table, from the first slice of a volume to the last.
    """

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(channels, places))

    def forward(self, depth: Tensor) -> Tensor:
        """Vectors ``(B, C, D)`` of places ``(B, D)`` from 0 to 1."""
        places = self.table.shape[1]
        at = depth.clamp(0, 1) * (places - 1)
        hats = F.relu(1 - (at[..., None] - torch.arange(places, device=depth.device)).abs())  # (B, D, places)
        return torch.einsum("cp,bdp->bcd", self.table, hats.to(self.table.dtype))


def groups_of(channels: int) -> int:
    """How many groups a group norm has: the most that divide the channels, 8 at most."""
    return next(groups for groups in range(min(8, channels), 0, -1) if channels % groups == 0)

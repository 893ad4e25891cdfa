"""Deformable cross-attention in three dimensions: every query looks at K places of another map that it chooses.

Equation 8 of the paper, with the conventions of Deformable DETR (Zhu et al., ICLR 2021, arXiv 2010.04159) where it is
silent: heads, projected values, offsets in cells, both offsets and weights from the query.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featlift.backbones.sampling import Triple
from featlift.encoders.threedme.config import Padding


def sampled(values: Tensor, places: Tensor, weights: Tensor, padding: Padding = "zeros") -> Tensor:
    """Weighted sums of values between cells, ``(B, N, C)``: head m has the m-th share of the channels.

    Args:
        values: V, ``(B, C, D, H, W)``.
        places: p + Δp in cells along D, H and W, the first at 0, ``(B, N, heads, K, 3)``.
        weights: A, ``(B, N, heads, K)``.
        padding: what is outside: ``zeros``, or ``border``, the nearest place inside.
    """
    batch, channels, *grid = values.shape
    queries, heads, points = weights.shape[1:]
    shares = values.reshape(batch * heads, channels // heads, *grid)
    sizes = torch.tensor(grid, dtype=places.dtype, device=places.device)
    seen = ((2 * places + 1) / sizes - 1).flip(-1)  # what grid_sample asks for: (W, H, D), the volume from -1 to 1
    seen = seen.transpose(1, 2).reshape(batch * heads, queries, points, 1, 3)
    found = F.grid_sample(shares, seen, mode="bilinear", padding_mode=padding, align_corners=False)[..., 0]
    share = weights.transpose(1, 2).reshape(batch * heads, 1, queries, points)
    return (found * share).sum(dim=-1).reshape(batch, channels, queries).transpose(1, 2)


class DeformableAttention(nn.Module):
    """DA(Q, V)(p) = W Σ A V'(p + Δp) over K places of each head.

    A = softmax(linear(Q)) over these, Δp = linear(Q), V' = linear(V).
    At the start a head looks along a direction of its own, at 1, 2, ... K cells, and weighs them alike.

    Args:
        width: C.
        heads: M.
        points: K.
        offset_scale: cells of one unit of the layer of offsets.
        padding: see `sampled`.
    """

    def __init__(self, width: int, heads: int, points: int, offset_scale: float, padding: Padding) -> None:
        super().__init__()
        self.heads, self.points, self.offset_scale = heads, points, offset_scale
        self.padding: Padding = padding
        self.offsets = nn.Linear(width, heads * points * 3)
        self.weights = nn.Linear(width, heads * points)
        self.values = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def start(self) -> None:
        """Offsets on rays and equal weights, whatever the query."""
        steps = torch.arange(1, self.points + 1)[:, None]
        rays = directions(self.heads)[:, None] * steps
        with torch.no_grad():
            for layer in (self.offsets, self.weights):
                layer.weight.zero_()
                layer.bias.zero_()
            self.offsets.bias.copy_(rays.flatten() / self.offset_scale)

    def forward(self, queries: Tensor, others: Tensor, grid: Triple) -> Tensor:
        """What each query finds, ``(B, N, C)``.

        Args:
            queries: Q ``(B, N, C)``, of the cells of the grid in row-major order.
            others: V, the same of the other map.
            grid: (d, h, w), d h w = N.
        """
        shape = (*queries.shape[:2], self.heads, self.points)
        # places in float32: half precisions have no thirds of a cell beyond the first hundred
        offsets = self.offsets(queries).float().reshape(*shape, 3) * self.offset_scale
        places = cells(grid, queries.device)[:, None, None] + offsets
        weights = self.weights(queries).float().reshape(shape).softmax(dim=-1)
        values = self.values(others).float().transpose(1, 2).reshape(len(others), -1, *grid)
        found = sampled(values, places, weights, self.padding)
        return self.out(found.to(queries.dtype))  # type: ignore[no-any-return]


def cells(grid: Triple, device: torch.device) -> Tensor:
    """Indices of the cells of a grid in row-major order, ``(N, 3)`` float32."""
    axes = [torch.arange(size, dtype=torch.float32, device=device) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def directions(count: int) -> Tensor:
    """Directions that are spread evenly over the sphere ``(count, 3)``, the largest component of each 1 in size.

    A Fibonacci lattice: what Deformable DETR's ring is in two dimensions.
    """
    number = torch.arange(count) + 0.5
    height = 1 - 2 * number / count
    angle = math.pi * (1 + math.sqrt(5)) * number
    ring = (1 - height.square()).sqrt()
    found = torch.stack([height, ring * angle.sin(), ring * angle.cos()], dim=-1)
    return found / found.abs().amax(dim=-1, keepdim=True)

"""Position codes of the tokens of a volume."""

from __future__ import annotations

import torch
from torch import Tensor

from featlift.backbones.sampling import Triple
from featlift.encoders.threedme.config import Position

_LONGEST = 10_000.0  # wavelengths in cells, from 2 pi to 2 pi times this


def position_codes(grid: Triple, channels: int, kind: Position = "sum") -> Tensor:
    """Codes ``(d, h, w, channels)`` of the cells of a grid, float64.

    ``sum`` is the paper's equation 1: the codes of the three indices are added, so that places whose indices are the
    same numbers in another order cannot be told apart: the 4096 of 16 x 16 x 16 have 816 codes. ``axes`` gives each
    index a third of the channels for itself.

    Args:
        grid: cells along d, h and w.
        channels: C, even; of ``axes`` a multiple of 6.
        kind: see above.
    """
    if kind == "sum":
        d, h, w = (_codes(size, channels) for size in grid)
        return d[:, None, None] + h[:, None] + w
    d, h, w = (_codes(size, channels // 3) for size in grid)
    shape = (*grid, channels // 3)
    return torch.cat([d[:, None, None].expand(shape), h[:, None].expand(shape), w.expand(shape)], dim=-1)


def _codes(size: int, channels: int) -> Tensor:
    """Of the indices from 0 along one axis ``(size, channels)``: sin(i w), cos(i w), w falling geometrically."""
    waves = _LONGEST ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angles = torch.arange(size, dtype=torch.float64)[:, None] * waves
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)

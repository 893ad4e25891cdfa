"""What a reconstruction is worth: 0.7 of masked voxels, 0.2 of features, 0.1 of edges (3DME, equations 9 to 13)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

#: What the Dice of edges is divided by: sums of squares, or sums as the paper writes.
Edges = Literal["squares", "sums"]

_SOBEL_SUM = 32  # of a kernel's sizes: a step of 1 has magnitude 1
_UNDER_ROOT, _IN_DICE = 1e-12, 1e-6


def reconstruction(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Half the mean squared error of masked voxels, counted over the batch.

    Args:
        output: ``(B, 1, D, H, W)``.
        target: likewise.
        mask: likewise, true where masked.
    """
    squares = (output - target).square()
    return (squares * mask).sum() / (2 * mask.sum())


def semantic(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """One minus the mean cosine of features at masked voxels, each voxel having those of its cell.

    Args:
        output: features of the reconstruction, ``(B, C, d, h, w)`` on a grid of cells.
        target: features of the volume.
        mask: ``(B, 1, D, H, W)``, true where masked.
    """
    cosine = F.cosine_similarity(output, target, dim=1)
    d, h, w = cosine.shape[1:]
    masked = F.adaptive_avg_pool3d(mask.to(cosine.dtype), (d, h, w))[:, 0]  # share of each cell's voxels
    return 1 - (cosine * masked).sum() / masked.sum()


def edges(output: Tensor, target: Tensor, divisor: Edges = "squares") -> Tensor:
    """One minus the soft Dice of edges, counted over the batch.

    With sums in the denominator, as the paper writes, it is no distance: it is not 0 for equal volumes, and a
    reconstruction of twice their contrast scores better. With squares (Milletari 2016) it is 0 for equal ones alone.

    Args:
        output: ``(B, 1, D, H, W)``.
        target: likewise.
        divisor: which.
    """
    one, other = sobel(output), sobel(target)
    power = 2 if divisor == "squares" else 1
    return 1 - 2 * (one * other).sum() / (one.pow(power).sum() + other.pow(power).sum() + _IN_DICE)


def sobel(volume: Tensor) -> Tensor:
    """How steep ``(B, 1, D, H, W)`` is, by Sobel's kernels in three dimensions; ends are continued."""
    slope, smooth = (torch.tensor(each, dtype=volume.dtype, device=volume.device) for each in ((-1, 0, 1), (1, 2, 1)))
    padded = F.pad(volume, (1,) * 6, mode="replicate")
    squares = torch.zeros_like(volume)
    for along in range(3):
        d, h, w = (slope if axis == along else smooth for axis in range(3))
        kernel = d[:, None, None] * h[:, None] * w / _SOBEL_SUM
        squares = squares + F.conv3d(padded, kernel[None, None]).square()
    return (squares + _UNDER_ROOT).sqrt()

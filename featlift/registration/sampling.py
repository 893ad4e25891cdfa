"""What every stage does with values on a grid: pooling, smoothing, resizing, sampling. Two dimensions are a depth of 1.

Written so that gradients are the same on every run, also on CUDA, where torch's own pooling adds up in any order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from featlift.volumes.grid import Shape


def shape_of(values: torch.Tensor) -> Shape:
    """(D, H, W) of ``(..., D, H, W)``."""
    depth, height, width = values.shape[-3:]
    return depth, height, width


def pooled(values: torch.Tensor, cell: Shape) -> torch.Tensor:
    """Means of ``(C, D, H, W)`` over cells of so many voxels; what does not fill a cell is left out."""
    return F.avg_pool3d(values[None], cell)[0]


def box_mean(values: torch.Tensor, times: int = 1, width: int = 3) -> torch.Tensor:
    """Mean over the box around each place of ``(..., D, H, W)``, so many times; zeros lie beyond the edges.

    Along an axis of one voxel nothing is averaged.
    """
    for _ in range(times):
        for axis in (-3, -2, -1):
            if (size := values.shape[axis]) > 1:
                padding = [0, 0] * (-axis - 1) + [width // 2] * 2
                padded = F.pad(values, padding)
                values = torch.stack([padded.narrow(axis, start, size) for start in range(width)]).mean(dim=0)
    return values


def resized(field: torch.Tensor, shape: Shape) -> torch.Tensor:
    """A displacement ``(3, d, h, w)`` on a finer or coarser grid of the same extent, in voxels of that grid."""
    scale = field.new_tensor([to / now for to, now in zip(shape, shape_of(field), strict=True)])
    return F.interpolate(field[None], shape, mode="trilinear", align_corners=False)[0] * scale[:, None, None, None]


def resized_slices(field: torch.Tensor, shape: Shape, slices: range) -> torch.Tensor:
    """Some slices of `resized`, for grids on which the whole of it is better not held twice: ``(3, n, H, W)``."""
    depth = field.shape[1]
    at = (torch.arange(slices.start, slices.stop, dtype=field.dtype, device=field.device) + 0.5) * depth / shape[
        0
    ] - 0.5
    at = at.clamp(0, depth - 1)
    below = at.long()
    share = (at - below)[:, None, None]
    planes = field[:, below] * (1 - share) + field[:, (below + 1).clamp(max=depth - 1)] * share
    scale = field.new_tensor([to / now for to, now in zip(shape, shape_of(field), strict=True)])
    return F.interpolate(planes, shape[1:], mode="bilinear", align_corners=False) * scale[:, None, None, None]


def places(shape: Shape, like: torch.Tensor) -> torch.Tensor:
    """The index of every voxel, ``(3, D, H, W)``, of the type and on the device of another tensor."""
    axes = [torch.arange(size, dtype=like.dtype, device=like.device) for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def sampled(
    values: torch.Tensor, field: torch.Tensor, stretched: bool = False, continued: bool = False
) -> torch.Tensor:
    """``values(p + field(p))`` at every voxel p: linear between voxels, fading to 0 within one step beyond the edges.

    Args:
        values: ``(C, D, H, W)``.
        field: ``(3, D, H, W)`` displacements in voxels along (d, h, w).
        stretched: go n / (n - 1) times as far along an axis of n voxels. convexAdam does, since it divides by n - 1
            what ``grid_sample`` then takes for a part of n.
        continued: beyond the edges lie the outermost values instead of 0.

    Returns:
        ``(C, D, H, W)``.
    """
    size = field.new_tensor(field.shape[1:])[:, None, None, None]
    ends = (size - 1).clamp(min=1) if stretched else size
    # torch counts from -1 at the outer edge of the first voxel to 1 at that of the last, the fastest axis first
    at = (2 * places(shape_of(field), field) + 1) / size - 1 + field * 2 / ends
    grid = at.flip(0).permute(1, 2, 3, 0)
    beyond = "border" if continued else "zeros"
    return F.grid_sample(values[None], grid[None], mode="bilinear", padding_mode=beyond, align_corners=False)[0]

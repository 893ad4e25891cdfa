"""ConvexAdam on features of any kind, in two and three dimensions: a search, then Adam from what it found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from featlift.errors import OptionError
from featlift.lifting.budget import free_bytes
from featlift.registration.refinement import Told, refined
from featlift.registration.sampling import box_mean, pooled, resized, shape_of
from featlift.registration.search import search
from featlift.sizes import human_bytes
from featlift.volumes.grid import Shape


@dataclass(frozen=True)
class ConvexAdam:
    """Settings; the defaults, and the names in brackets, are those of convexAdam 0.2.0.

    Lengths count in voxels of the finest axis. Along coarser axes a cell has fewer voxels, so that it is about as long.

    Attributes:
        cell: edge of the cells that the search works on (grid_sp).
        reach: how many of these cells the search goes along an axis (disp_hw).
        inverse: search in both directions and make the fields consistent (ic).
        iterations: of Adam; 0 leaves the field of the search (selected_niter).
        weight: of the diffusion regulariser, with features at MIND's typical distance (lambda_weight).
        fine_cell: edge of the cells that Adam works on (grid_sp_adam).
        smoothing: side of a box that the final field is averaged over, three times; odd, 0 for none (selected_smooth).
        stretched: sample displacements n / (n - 1) times too far along an axis of n cells, as convexAdam does. It makes
            every stage that of the package, and the field too short by as much.
    """

    cell: int = 6
    reach: int = 4
    inverse: bool = True
    iterations: int = 80
    weight: float = 1.25
    fine_cell: int = 2
    smoothing: int = 0
    stretched: bool = False

    def __post_init__(self) -> None:
        for name in ("cell", "reach", "fine_cell"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} {getattr(self, name)}: give at least 1")
        if self.iterations < 0 or not 0 <= self.weight < math.inf:
            raise OptionError(f"{self.iterations} iterations with weight {self.weight}: give none below 0")
        if self.smoothing < 0 or (self.smoothing and self.smoothing % 2 == 0):
            raise OptionError(f"smoothing {self.smoothing}: give an odd side of a box, or 0 for none")


def convex_adam(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    spacing: Sequence[float] = (1, 1, 1),
    settings: ConvexAdam | None = None,
    told: Told | None = None,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Where each voxel of the fixed grid is found in the moving one, both being the same grid.

    Args:
        fixed: features ``(C, D, H, W)``, of a typical squared distance near that of MIND-SSC, see
            `featlift.registration.features.TYPICAL`.
        moving: features ``(C, D, H, W)``.
        spacing: millimetres between voxels along (d, h, w). Only its proportions count.
        settings: None for the defaults.
        told: of each iteration of Adam.
        start: a field like the result, such as a network's, to begin Adam with instead of a search.

    Returns:
        ``u``, ``(3, D, H, W)`` in voxels along (d, h, w): ``moving(p + u(p))`` lies on ``fixed(p)``.

    Raises:
        OptionError: features of different shapes, or fewer voxels than a cell; costs that exceed the free memory.
    """
    settings = settings or ConvexAdam()
    if fixed.shape != moving.shape or fixed.ndim != 4:
        raise OptionError(f"features of {tuple(fixed.shape)} and {tuple(moving.shape)}: give two (C, D, H, W) alike")
    shape = shape_of(fixed)
    coarse, fine = cells_of(settings.cell, shape, spacing), cells_of(settings.fine_cell, shape, spacing)
    whole = _whole_cells(shape, coarse, fine)
    field = _searched(fixed, moving, coarse, whole, spacing, settings) if start is None else _continued(start, whole)
    if settings.iterations:
        ends = _cells(fixed, fine, whole), _cells(moving, fine, whole)
        start = resized(field, shape_of(ends[0]))
        edges = fixed.new_tensor(_edges(fine, spacing, whole))
        with torch.enable_grad():
            field = refined(*ends, start, edges, settings.weight, settings.iterations, settings.stretched, told)
        field = resized(field, whole)
    if settings.smoothing:
        field = box_mean(field, times=3, width=settings.smoothing)
    depth, height, width = shape
    return field[:, :depth, :height, :width]


def _searched(
    fixed: torch.Tensor, moving: torch.Tensor, cell: Shape, whole: Shape, spacing: Sequence[float], settings: ConvexAdam
) -> torch.Tensor:
    """The field of the search, in voxels of a grid of whole cells."""
    _check_memory(fixed, cell, settings.reach)
    with torch.no_grad():
        field = search(
            _cells(fixed, cell, whole),
            _cells(moving, cell, whole),
            settings.reach,
            fixed.new_tensor(_edges(cell, spacing, whole)),
            settings.inverse,
            settings.stretched,
        )
        return resized(field, whole)


def cells_of(edge: int, shape: Shape, spacing: Sequence[float]) -> Shape:
    """Voxels of a cell along (d, h, w): `edge` of the finest axis, of others as many as are about as long.

    Axes of one voxel have cells of one, and do not count as the finest.
    """
    finest = min((step for step, size in zip(spacing, shape, strict=True) if size > 1), default=1.0)
    d, h, w = (max(1, min(size, round(edge * finest / step))) for step, size in zip(spacing, shape, strict=True))
    return d, h, w


def _edges(cell: Shape, spacing: Sequence[float], shape: Shape) -> list[float]:
    """Of a cell along (d, h, w), in parts of the shortest one along an axis that has several cells; 1 along others."""
    lengths = [
        count * step if size > count else math.inf for count, step, size in zip(cell, spacing, shape, strict=True)
    ]
    return [length / min(lengths) if length < math.inf else 1.0 for length in lengths]


def _whole_cells(shape: Shape, *cells: Shape) -> Shape:
    """The shape with as many more slices, rows and columns as it takes for cells of all these sizes to fill it."""
    d, h, w = (size + -size % math.lcm(*each) for size, *each in zip(shape, *cells, strict=True))
    return d, h, w


def _cells(features: torch.Tensor, cell: Shape, whole: Shape) -> torch.Tensor:
    """Means over cells of features that are continued to a shape."""
    return pooled(_continued(features, whole), cell)


def _continued(values: torch.Tensor, whole: Shape) -> torch.Tensor:
    """``(C, D, H, W)`` continued after the last slice, row and column to a shape."""
    d, h, w = (to - now for to, now in zip(whole, shape_of(values), strict=True))
    return F.pad(values[None], (0, w, 0, h, 0, d), mode="replicate")[0] if d or h or w else values


def _check_memory(features: torch.Tensor, cell: Shape, reach: int) -> None:
    """Refuse a search whose costs do not fit, rather than be ended by the system in the middle of it."""
    cells = [-(-size // each) for size, each in zip(shape_of(features), cell, strict=True)]
    tried = math.prod(2 * reach + 1 if count > 1 else 1 for count in cells)
    needed = math.prod(cells) * tried * features.element_size()
    free = free_bytes(features.device)
    if free is not None and needed > free:
        raise OptionError(
            f"the search over {tried:,} displacements takes {human_bytes(needed)} and {human_bytes(free)} are free: "
            "give larger cells, less reach, or a coarser spacing"
        )

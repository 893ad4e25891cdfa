"""Where the cells that a head is given, and the voxels that it predicts, lie in a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.store.case import CaseLayer
from featlift.store.cells import CellGrid
from featlift.volumes.grid import Shape
from featlift.volumes.regions import Box


@dataclass(frozen=True)
class Frame:
    """A grid of cells that covers a scan, and the finer grid on which a head predicts.

    A cell of a layer stands for a block of voxels; the frame has further cells before the first and after the last of
    them where the layer leaves voxels uncovered (a CNN's first block may begin at voxel 7). Every cell is divided into
    the same number of predicted voxels.

    Attributes:
        voxels: (D, H, W) of the stored scan.
        cells: (d, h, w) that cover it.
        lead: of these, how many come before the layer's first one.
        offset: (d, h, w) in voxels of the scan, of the centre of the layer's first cell.
        stride: voxels of the scan from one cell to the next.
        step: voxels of the scan from one predicted voxel to the next.
    """

    voxels: Shape
    cells: Shape
    lead: Shape
    offset: tuple[float, float, float]
    stride: Shape
    step: Shape

    @classmethod
    def of(cls, layer: CaseLayer, voxels: Shape, step: int) -> Frame:
        """The frame of a layer's cells.

        Args:
            layer: whose grid it is; its features need not be kept.
            voxels: (D, H, W) of the stored scan.
            step: voxels of the scan for each predicted one, along h and w.
        """
        lead, cells = [], []
        for size, stride, offset in zip(voxels, layer.stride, layer.offset, strict=True):
            first = _begin(offset, stride)
            lead.append(max(0, math.ceil(first / stride)))
            cells.append(max(1, math.ceil((size - first) / stride) + lead[-1]))
        depth, *_ = layer.stride
        return cls(voxels, _shape(cells), _shape(lead), layer.offset, layer.stride, (depth, step, step))

    @property
    def fine(self) -> Shape:
        """(D, H, W) of the voxels that are predicted."""
        return _shape([n * ratio for n, ratio in zip(self.cells, self.ratio, strict=True)])

    @property
    def ratio(self) -> Shape:
        """Predicted voxels of one cell along d, h and w."""
        return _shape([stride // step for stride, step in zip(self.stride, self.step, strict=True)])

    @property
    def start(self) -> Shape:
        """The voxel of the scan at which the first cell begins: 0 or before."""
        axes = zip(self.offset, self.stride, self.lead, strict=True)
        return _shape([_begin(offset, stride) - lead * stride for offset, stride, lead in axes])

    @property
    def grid(self) -> CellGrid:
        """The predicted voxels among those of the scan."""
        d, h, w = (start + (step - 1) / 2 for start, step in zip(self.start, self.step, strict=True))
        return CellGrid(self.fine, self.voxels, self.step, (d, h, w))

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which predicted voxels are centred in the scan, ``(D, H, W)``."""
        grid = self.grid
        axes = zip(grid.cells, grid.stride, grid.offset, self.voxels, strict=True)
        centres = [(offset + stride * np.arange(n), size) for n, stride, offset, size in axes]
        d, h, w = ((at >= -0.5) & (at <= size - 0.5) for at, size in centres)
        return d[:, None, None] & h[:, None] & w

    def centres(self, box: Box) -> list[NDArray[np.float64]]:
        """Where the cells of a box are centred, in voxels of the scan along d, h and w."""
        axes = zip(box.start, box.shape, self.lead, self.offset, self.stride, strict=True)
        return [
            offset + stride * (start + np.arange(n, dtype=np.float64) - lead) for start, n, lead, offset, stride in axes
        ]

    def under(self, box: Box) -> Box:
        """The predicted voxels of a box of cells."""
        start = [n * ratio for n, ratio in zip(box.start, self.ratio, strict=True)]
        shape = [n * ratio for n, ratio in zip(box.shape, self.ratio, strict=True)]
        return Box(_shape(start), _shape(shape))


def step_for(stride: Shape, enlarged: float) -> int:
    """The step at which a scan is predicted: its features' stride, halved until it is nearest to the mask's voxels.

    Args:
        stride: of the cells.
        enlarged: voxels of the scan to one of the mask, in-plane.
    """
    step = stride[1]
    while step % 2 == 0 and step > enlarged * math.sqrt(2):
        step //= 2
    return step


def check_step(stride: Shape, step: int) -> int:
    """How many predicted voxels a cell has along h and w with a step.

    Raises:
        OptionError: no whole number.
    """
    if step < 1 or stride[1] != stride[2] or stride[1] % step:
        steps = [str(stride[1] // n) for n in range(1, stride[1] + 1) if not stride[1] % n]
        raise OptionError(f"--step {step}: cells of stride {stride[1]} can be divided to steps of {', '.join(steps)}")
    return stride[1] // step


def _begin(offset: float, stride: int) -> int:
    """First voxel of the block of a cell; half a voxel is rounded down, as everywhere else."""
    return math.floor(offset - (stride - 1) / 2 + 1e-6)


def _shape(sizes: list[int]) -> Shape:
    d, h, w = sizes
    return d, h, w

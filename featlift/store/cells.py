"""Feature cells among the voxels of their scan: maps up to the voxels, labels down to the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from featlift.volumes.grid import Shape

Nearest = Literal["corner", "centre"]


class VoxelGrid(Protocol):
    """Voxels that cells meet: those of the stored scan (`CellGrid`) or of a mask (`MaskGrid`)."""

    @property
    def voxels(self) -> Shape:
        """(D, H, W)."""

    def upsample(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map ``(d, h, w)`` of the cells at every voxel, ``(D, H, W)``."""

    def labels_on_cells(self, labels: NDArray[np.int32], nearest: Nearest = "centre") -> NDArray[np.int32]:
        """Labels ``(D, H, W)`` of the voxels at the cells, ``(d, h, w)``."""

    def labels_to_learn(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Of labels ``(D, H, W)`` those of the places that `sample` knows."""

    def sample(self, features: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.float32]:
        """Features ``(C, d, h, w)`` at some places of the flattened `labels_to_learn`, ``(N, C)``."""


@dataclass(frozen=True)
class CellGrid:
    """Cell ``i`` of an axis is centred on voxel ``offset + stride * i`` of the scan.

    Attributes:
        cells: (d, h, w), how many cells are scan; padded ones do not count.
        voxels: (D, H, W) of the scan.
        stride: voxels from one cell to the next along d, h and w.
        offset: (d, h, w) in voxels of the centre of the first cell.
    """

    cells: Shape
    voxels: Shape
    stride: tuple[float, float, float]
    offset: tuple[float, float, float]

    @classmethod
    def of_equal_extent(cls, cells: Sequence[int], voxels: Sequence[int]) -> CellGrid:
        """Cells that share the voxels out evenly, as torch's ``interpolate`` has it with ``align_corners=False``."""
        (d, h, w), (depth, height, width) = cells, voxels
        strides = (depth / d, height / h, width / w)
        offsets = ((strides[0] - 1) / 2, (strides[1] - 1) / 2, (strides[2] - 1) / 2)
        return cls((d, h, w), (depth, height, width), strides, offsets)

    def upsample(self, values: NDArray[np.float32], axis: int | None = None, voxel: int = 0) -> NDArray[np.float32]:
        """Trilinear interpolation of a map ``(d, h, w)`` at every voxel, ``(D, H, W)``, or at those of one plane.

        Beyond the outermost cells theirs are repeated. On grids of equal extent this is torch's trilinear
        ``interpolate`` with ``align_corners=False``.

        Args:
            values: the map.
            axis: normal of the plane; None gives the whole volume.
            voxel: index of the plane, whose axis has then the size 1.
        """
        for along, (cells, voxels, stride, offset) in enumerate(self._axes()):
            wanted = np.array([voxel]) if along == axis else np.arange(voxels)
            # a cell's weight falls linearly from 1 at its centre to 0 at its neighbours': a hat
            at = np.clip((wanted - offset) / stride, 0, cells - 1)
            hats = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))).astype(np.float32)
            values = np.moveaxis(np.moveaxis(values, along, -1) @ hats.T, -1, along)
        return np.ascontiguousarray(values)

    def labels_on_cells(self, labels: NDArray[np.int32], nearest: Nearest = "centre") -> NDArray[np.int32]:
        """Labels ``(D, H, W)`` by nearest neighbour at the cells, ``(d, h, w)``.

        Args:
            labels: on the voxels.
            nearest: a cell takes the label at its ``centre``, as torch's ``interpolate(mode="nearest-exact")`` has it,
                or at the ``corner`` of the block of voxels that it stands for, its first one, as torch's ``nearest``
                and the released notebook.
        """
        return labels[np.ix_(*self.voxels_of_cells(nearest))]

    def labels_to_learn(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """`labels_on_cells`: what is learned of cells is learned without interpolating any."""
        return self.labels_on_cells(labels)

    def sample(self, features: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.float32]:
        """Features ``(C, d, h, w)`` of some cells, by their index in the flattened grid, ``(N, C)``."""
        return features.reshape(len(features), -1)[:, places].T

    def voxels_of_cells(self, nearest: Nearest = "centre") -> list[NDArray[np.intp]]:
        """Along each axis the voxel that speaks for each cell, see `labels_on_cells`."""
        voxels = []
        for cells, size, stride, offset in self._axes():
            shift = -(stride - 1) / 2 if nearest == "corner" else 0.5
            at = np.floor(offset + shift + stride * np.arange(cells) + 1e-6)  # 2.9999999 is voxel 3
            voxels.append(np.clip(at, 0, size - 1).astype(np.intp))
        return voxels

    def cell_at(self, voxel: Sequence[int]) -> Shape:
        """(d, h, w) of the cell whose centre is nearest to a voxel; of two, the later one."""
        d, h, w = (
            int(np.clip(np.floor((index - offset) / stride + 0.5), 0, cells - 1))
            for index, (cells, _, stride, offset) in zip(voxel, self._axes(), strict=True)
        )
        return d, h, w

    def _axes(self) -> list[tuple[int, int, float, float]]:
        return list(zip(self.cells, self.voxels, self.stride, self.offset, strict=True))

"""Feature cells among the voxels of a mask, whatever grid that is on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.store.case import Case, CaseLayer
from featlift.store.cells import Nearest
from featlift.volumes.grid import Shape, inside
from featlift.volumes.volume import Affine, Volume, scaled


@dataclass(frozen=True, eq=False)
class MaskGrid:
    """Where the cells of a layer and the voxels of a mask meet: in millimetres.

    Scores on a mask's own voxels can be compared between features of any size, spacing and orientation.

    Attributes:
        cells: (d, h, w), how many cells are scan; padded ones do not count.
        voxels: (D, H, W) of the mask.
        to_cells: 4x4, maps indices of voxels ``(d, h, w, 1)`` to indices of cells.
    """

    cells: Shape
    voxels: Shape
    to_cells: Affine

    @classmethod
    def of(cls, layer: CaseLayer, mask: Volume) -> MaskGrid:
        """The cells of a layer among the voxels of a mask.

        Raises:
            VolumeError: one of them does not say where it lies.
        """
        if layer.affine is None or mask.affine is None:
            raise VolumeError("the mask or its scan does not say where it lies: score on the scan's voxels instead")
        depth, height, width = mask.array.shape
        return cls(layer.valid_cells, (depth, height, width), np.asarray(np.linalg.solve(layer.affine, mask.affine)))

    def upsample(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Trilinear interpolation of a map ``(d, h, w)`` at every voxel ``(D, H, W)``; ends are repeated."""
        from scipy.ndimage import affine_transform

        matrix, shift = self.to_cells[:3, :3], self.to_cells[:3, 3]
        found: NDArray[np.float32] = affine_transform(
            values.astype(np.float32, copy=False), matrix, shift, self.voxels, order=1, mode="nearest"
        )
        return found

    def labels_on_cells(self, labels: NDArray[np.int32], nearest: Nearest = "centre") -> NDArray[np.int32]:
        """The labels ``(D, H, W)`` of the voxels nearest to the cells, ``(d, h, w)``, 0 beyond the mask.

        Args:
            labels: on the voxels.
            nearest: ``centre``; blocks of voxels, whose ``corner`` could be meant, are those of scans.
        """
        from scipy.ndimage import affine_transform

        if nearest != "centre":
            raise ValueError(f"nearest {nearest!r} is not defined on the grid of a mask")
        to_voxels = np.linalg.inv(self.to_cells)
        found: NDArray[np.int32] = affine_transform(
            labels, to_voxels[:3, :3], to_voxels[:3, 3], self.cells, order=0, mode="constant"
        )
        return found

    def labels_to_learn(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """The labels as they are: every voxel can be learned from."""
        return labels

    def sample(self, features: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.float32]:
        """Features ``(C, d, h, w)`` at some voxels, by trilinear interpolation, as `upsample` would have them.

        Args:
            features: of the cells.
            places: indices ``(N,)`` in the flattened mask.

        Returns:
            ``(N, C)``.
        """
        indices = np.stack([*np.unravel_index(places, self.voxels), np.ones(len(places))])
        at = (self.to_cells @ indices)[:3]
        last = np.array(self.cells)[:, None] - 1
        at = np.clip(at, 0, last)
        low = np.minimum(at.astype(np.intp), np.maximum(last - 1, 0))
        share = (at - low).astype(np.float32)
        rows = np.moveaxis(features, 0, -1).reshape(-1, len(features))
        found = np.zeros((len(places), len(features)), np.float32)
        for corner in np.ndindex(2, 2, 2):
            step = np.array(corner)[:, None]
            weight = np.where(step, share, 1 - share).prod(axis=0)
            flat = np.ravel_multi_index(np.minimum(low + step, last), self.cells)
            found += weight[:, None] * rows[flat]
        return found


def mask_within(case: Case, mask: Volume) -> Volume:
    """The part of a mask that lies in a case's scan; voxels of it that are centred outside are background.

    Raises:
        VolumeError: one of them does not say where it lies, or they do not overlap.
    """
    if case.scan_affine is None or mask.affine is None:
        raise VolumeError("the mask or its scan does not say where it lies: score on the scan's voxels instead")
    depth, height, width = mask.array.shape
    within = inside(case.scan_shape, case.scan_affine, (depth, height, width), mask.affine)
    found = np.argwhere(within)
    if not len(found):
        raise VolumeError("the mask does not overlap the scan: are they of one patient, and is its orientation right?")
    first, last = found.min(axis=0), found.max(axis=0) + 1
    box = tuple(slice(start, stop) for start, stop in zip(first, last, strict=True))
    array = np.where(within[box], mask.array[box], 0)
    return Volume(array, scaled(mask.affine, (1.0, 1.0, 1.0), tuple(map(float, first))), source=mask.source)

"""What a mask says of a case, on the voxels on which features are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featlift.store.case import Case, CaseLayer
from featlift.store.cells import VoxelGrid
from featlift.store.features import as_labels, grid_of, labels_of
from featlift.store.mask_grid import MaskGrid, mask_within
from featlift.volumes.volume import Affine, Volume, spacing_of

#: Whose voxels: those of the stored scan, among which cells lie evenly, or those of the mask.
On = Literal["scan", "mask"]


@dataclass(frozen=True, eq=False)
class Truth:
    """Labels of a case.

    Attributes:
        labels: ``(D, H, W)``, 0 for background.
        grid: where cells lie among these voxels.
        affine: of the voxels, to LPS millimetres; None where the scan's geometry is unknown.
        mask_sha256: of the mask's file.
    """

    labels: NDArray[np.int32]
    grid: VoxelGrid
    affine: Affine | None
    mask_sha256: str | None

    @property
    def spacing(self) -> Sequence[float] | None:
        """(d, h, w) in mm, or None."""
        return None if self.affine is None else spacing_of(self.affine)


def truth_of(case: Case, layer: CaseLayer, mask: Volume, on: On = "scan") -> Truth:
    """The labels of a mask, as they are on its own voxels within the scan, or as nearest neighbours on the scan's.

    Args:
        case: of a store.
        layer: whose features are scored.
        mask: of the patient, on any grid.
        on: whose voxels.

    Raises:
        VolumeError: the mask is empty, holds no labels, does not overlap the case, is the scan itself, or does not say
            where it lies.
    """
    sha256 = None if mask.source is None else mask.source["sha256"]
    if on == "scan":
        return Truth(labels_of(case, mask), grid_of(case, layer), case.scan_affine, sha256)
    part = mask_within(case, mask)
    labels = as_labels(case, part, (part.array.shape[0], part.array.shape[1], part.array.shape[2]), part.affine)
    return Truth(labels, MaskGrid.of(layer, part), part.affine, sha256)

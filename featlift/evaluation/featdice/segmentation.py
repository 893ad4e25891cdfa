"""FeatDice's two procedures: a segmentation from frozen features alone, without training.

They are those of the scripts released with PlaneCycle (arXiv:2603.04165): `segment_by_centre` of the one for LIDC,
`segment_by_prototypes` of the whole-heart notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.store.cells import CellGrid, Nearest, VoxelGrid

Centre = Literal["grid", "lesion"]

THRESHOLD = 0.9  # of the released script, whose option of that name is not used
_EPSILON = 1e-8


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the features of a volume say of its labels.

    Attributes:
        similarity: by label, how similar each cell is to the label's prototype, ``(d, h, w)`` float32; of a trained
            classifier, its logits. A label without a prototype is missing.
        prediction: ``(D, H, W)``, the label of each voxel, 0 for background.
        grid: where the cells lie among the voxels.
    """

    similarity: dict[int, NDArray[np.float32]]
    prediction: NDArray[np.int32]
    grid: VoxelGrid

    def map_of(self, label: int) -> NDArray[np.float32]:
        """The similarity to a label's prototype, or the logit, at every voxel, ``(D, H, W)``."""
        return self.grid.upsample(self.similarity[label])


def cosine_similarity(features: NDArray[np.float32], prototype: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of the angle between a prototype ``(C,)`` and the feature of each cell of ``(C, d, h, w)``."""
    lengths = np.sqrt(np.einsum("cdhw,cdhw->dhw", features, features))
    products = np.tensordot(prototype, features, axes=1)
    similarity: NDArray[np.float32] = products / (
        np.maximum(lengths, _EPSILON) * max(float(np.linalg.norm(prototype)), _EPSILON)
    )
    return similarity


def segment_by_centre(
    features: NDArray[np.float32],
    mask: NDArray[Any],
    grid: CellGrid | None = None,
    *,
    centre: Centre = "grid",
    threshold: float = THRESHOLD,
) -> Segmentation:
    """Segment the lesion in the middle of a crop by the feature at its centre.

    The similarity of every cell to that feature is scaled to [0, 1] over the crop and upsampled; what exceeds the
    threshold is predicted as label 1.

    Args:
        features: ``(C, d, h, w)``, padded cells cut off.
        mask: ``(D, H, W)``, not 0 in the lesion. Only ``centre="lesion"`` looks at it.
        grid: where the cells lie; None shares the mask's voxels out evenly.
        centre: take the feature at the middle of the grid, (d // 2, h // 2, w // 2), or at the lesion's voxel that is
            nearest to its centroid.
        threshold: above which a voxel belongs to the lesion.
    """
    grid = grid or CellGrid.of_equal_extent(features.shape[1:], mask.shape)
    if centre == "grid":
        d, h, w = (size // 2 for size in features.shape[1:])
    else:
        d, h, w = grid.cell_at(voxel_nearest_to_centroid(mask != 0))
    similarity = cosine_similarity(features, features[:, d, h, w])
    lowest, highest = similarity.min(), similarity.max()
    similarity = (similarity - lowest) / (highest - lowest + np.float32(_EPSILON))
    prediction = (grid.upsample(similarity) > threshold).astype(np.int32)
    return Segmentation({1: similarity}, prediction, grid)


def segment_by_prototypes(
    features: NDArray[np.float32],
    labels: NDArray[np.int32],
    grid: VoxelGrid | None = None,
    *,
    nearest: Nearest = "centre",
) -> Segmentation:
    """Give each voxel the label whose prototype its features are most similar to.

    A label's prototype is the mean feature of its cells, background included; a label that nearest neighbour loses on
    the cells has none, and no voxel gets it.

    Args:
        features: ``(C, d, h, w)``, padded cells cut off.
        labels: ``(D, H, W)``, 0 for background.
        grid: where the cells lie; None shares the voxels out evenly.
        nearest: which voxel's label a cell takes, see `CellGrid.labels_on_cells`.
    """
    grid = grid or CellGrid.of_equal_extent(features.shape[1:], labels.shape)
    on_cells = grid.labels_on_cells(labels, nearest)
    similarity = {
        label: cosine_similarity(features, features[:, on_cells == label].mean(axis=1))
        for label in np.unique(on_cells).tolist()
    }
    return segment_by_maps(similarity, grid)


def segment_by_maps(maps: dict[int, NDArray[np.float32]], grid: VoxelGrid) -> Segmentation:
    """Give each voxel the label whose upsampled map is highest there; of several, the first.

    Args:
        maps: by label, ``(d, h, w)``.
        grid: where the cells lie.
    """
    prediction = np.zeros(grid.voxels, np.int32)
    highest = np.full(grid.voxels, -np.inf, np.float32)
    for label, values in maps.items():  # one label at a time: all of them on the voxels would take much of the memory
        upsampled = grid.upsample(values)
        wins = upsampled > highest
        prediction[wins] = label
        highest[wins] = upsampled[wins]
    return Segmentation(maps, prediction, grid)


def voxel_nearest_to_centroid(mask: NDArray[np.bool_]) -> Sequence[int]:
    """(d, h, w) of the voxel of a mask that is nearest to its centroid, which may lie outside; in voxels, not mm.

    Raises:
        OptionError: the mask is empty.
    """
    voxels = np.argwhere(mask)
    if not len(voxels):
        raise OptionError("an empty mask has no centroid")
    nearest: list[int] = voxels[np.square(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()].tolist()
    return nearest

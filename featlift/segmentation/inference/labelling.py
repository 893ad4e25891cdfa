"""From probabilities of labels to a file of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from featlift.atomic_io import write_atomically
from featlift.segmentation.inference.grids import ImageGrid
from featlift.volumes.grid import Shape, inside, on_grid
from featlift.volumes.nifti import write_nifti
from featlift.volumes.volume import Affine


def likeliest(
    chances: Tensor, labels: Sequence[int], affine: Affine, image: ImageGrid, seen: Shape, seen_affine: Affine
) -> NDArray[np.int32]:
    """The likeliest label of each voxel of an image; background where its centre lies beyond the scan that was seen.

    Args:
        chances: ``(K, D, H, W)``.
        labels: of the K classes.
        affine: of `chances`.
        image: the voxels that are wanted.
        seen: (D, H, W) of the scan that was seen.
        seen_affine: of it.
    """
    found = np.zeros(image.shape, np.int32)
    highest = np.full(image.shape, -np.inf, np.float32)
    for number, label in enumerate(labels):
        values = on_grid(chances[number].numpy(), affine, image.shape, image.affine, order=1)
        found[values > highest] = label
        highest = np.maximum(highest, values)
    found[~inside(seen, seen_affine, image.shape, image.affine)] = 0
    return found


def write_labels(path: Path, labels: NDArray[np.int32], affine: Affine | None) -> Path:
    """A file of the smallest type that holds the labels, whole or not at all."""
    kind = np.uint8 if labels.max() < 256 else np.int16 if labels.max() < 1 << 15 else np.int32
    write_atomically(path, lambda draft: write_nifti(draft, labels.astype(kind), affine))
    return path

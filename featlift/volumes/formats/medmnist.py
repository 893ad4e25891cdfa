"""MedMNIST's .npz: many small volumes in one file, each with a split and a label."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from featlift.errors import VolumeError
from featlift.volumes.formats.numpy_files import npz_shapes, read_array

SPLITS = ("train", "val", "test")
_ARRAYS = {f"{split}_{what}" for split in SPLITS for what in ("images", "labels")}


def is_medmnist(path: Path) -> bool:
    """Whether a .npz file is laid out as MedMNIST's are."""
    try:
        return path.is_file() and npz_shapes(path).keys() >= _ARRAYS  # a pipe would never end
    except (VolumeError, OSError):
        return False  # reading it will say what is wrong


def medmnist_volumes(path: Path) -> Iterator[tuple[str, int, int | str]]:
    """Split, number in the split, and label of each volume; several labels are joined by commas.

    Raises:
        VolumeError: the images are 2D, or not as many as the labels.
    """
    shapes = npz_shapes(path)
    for split in SPLITS:
        images, labels = shapes[f"{split}_images"], shapes[f"{split}_labels"]
        if len(images) != 4 or images[-1] == 3:
            raise VolumeError("a MedMNIST of 2D images: take a 3D one, such as organmnist3d.npz")
        if labels[:1] != images[:1]:
            raise VolumeError(f"{images[0]} {split} images but labels of shape {labels}: download it again")
        values = read_array(path, f"{split}_labels").reshape(images[0], math.prod(labels[1:]))
        for number, label in enumerate(values.tolist()):
            yield split, number, label[0] if len(label) == 1 else ",".join(map(str, label))

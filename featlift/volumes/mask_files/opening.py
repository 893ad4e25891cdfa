"""`open_labels`: what a mask holds, as one image of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.formats import suffix_of
from featlift.volumes.formats.nrrd import open_layers
from featlift.volumes.image import Image
from featlift.volumes.mask_files.slicer import open_segments, segments_in
from featlift.volumes.merging import binary, merged, one_hot
from featlift.volumes.source import Source

_SAME_PLACE = 1e-3  # mm

OpenImage = Callable[[Source], Image]


def open_labels(source: Source, open_image: OpenImage) -> Image:
    """Open a mask as an image of labels, one frame of whole numbers.

    Args:
        source: on this machine, with `Source.labels`.
        open_image: opens an image that is no mask.

    Raises:
        VolumeError: it is damaged; files of its structures lie on several grids or are not binary; its channels
            overlap.
    """
    path = source.path
    assert isinstance(path, Path)
    labels = dict(source.labels or ())
    if labels and source.members and suffix_of(Path(source.members[0])):
        return _of_files(source, labels, open_image)
    if labels and source.members:
        from featlift.volumes.dicom import open_structures

        return open_structures(path, source.members, labels)
    if labels:
        return open_segments(path, segments_in(path), labels)
    is_nrrd = suffix_of(path) in (".nrrd", ".nhdr") and source.frame is None
    image = open_layers(path) if is_nrrd else open_image(replace(source, labels=None))
    return _of_channels(image) if image.frames > 1 and source.frame is None else image


def _of_files(source: Source, labels: dict[str, int], open_image: OpenImage) -> Image:
    """A file a structure, called after it: those with a label."""
    files = {name: name_of_structure(name) for name in source.members}
    assert isinstance(source.path, Path)
    images = {file: open_image(Source(source.path / file)) for file, structure in files.items() if structure in labels}
    (first, image), *others = images.items()
    for file, other in others:
        if other.shape != image.shape or not _same_place(image, other):
            raise VolumeError(f"{file} lies on another grid than {first}: bring the masks of a case onto one grid")

    def load(frame: int) -> NDArray[Any]:
        return merged(image.shape, structures())

    def structures() -> Iterator[tuple[int, NDArray[np.bool_]]]:
        for file, each in images.items():
            if each.frames > 1:
                raise VolumeError(f"{file} holds {each.frames} frames, and a mask of one structure has one")
            yield labels[files[file]], binary(each.load(0), file)

    return Image(image.shape, load, image.affine)


def name_of_structure(file: str) -> str:
    """What a file of one structure is called after: ``liver`` for ``segmentations/liver.nii.gz``."""
    name = Path(file).name
    return name[: len(name) - len(suffix_of(Path(name)) or "")]


def _of_channels(image: Image) -> Image:
    def load(frame: int) -> NDArray[Any]:
        return one_hot([image.load(number) for number in range(image.frames)])

    return Image(image.shape, load, image.affine)


def _same_place(one: Image, other: Image) -> bool:
    if one.affine is None or other.affine is None:
        return one.affine is other.affine
    return np.allclose(one.affine, other.affine, rtol=0, atol=_SAME_PLACE)

"""The objects of a case on the voxels of its stored scan, under numbers that follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import FeatliftError, VolumeError
from featlift.segmentation.data.frame import Frame
from featlift.store.case import Case
from featlift.store.features import is_the_scan
from featlift.volumes.discovery.series import source_of
from featlift.volumes.grid import on_grid
from featlift.volumes.instances import Instances, instances_in
from featlift.volumes.opening import Reading
from featlift.volumes.source import MaskFile, Source
from featlift.volumes.volume import Affine

#: Numbers of no object, and of voxels of which nothing is known; objects have those from 2.
NOTHING, UNKNOWN = 0, 1


def objects_of(case: Case, file: MaskFile, ignore: Sequence[int] = ()) -> NDArray[Any]:
    """The objects of a case, exactly, whatever their ids.

    Args:
        case: whose scan they are of.
        file: of the mask.
        ignore: ids of the mask that say nothing.

    Returns:
        ``(D, H, W)`` of the stored scan, of the smallest type that holds them: `NOTHING`, `UNKNOWN`, or an object's.

    Raises:
        VolumeError: the mask is damaged, no mask of ids, the scan itself, of another shape or place, or holds no object
            or one.
        InputError: it is missing.
    """
    try:
        source = file if isinstance(file, Source) else source_of(file)
        if source.labels:
            raise VolumeError("structures with names, where objects are numbered: give a mask of their ids")
        mask = instances_in(source, Reading())
        _check_place(case, mask)
        found = _numbered(mask.array, ignore)
    except FeatliftError as error:
        raise type(error)(f"{case.id}: {error}") from error
    affine, of_scan = _affine(case, mask), case.scan_affine
    if affine is None or of_scan is None or (found.shape == case.scan_shape and _is_close(affine, of_scan)):
        return found
    return on_grid(found, affine, case.scan_shape, of_scan, order=0)


def on_frame(objects: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """The objects on the predicted voxels of a frame of step 1, `UNKNOWN` beyond the scan."""
    found = np.full(frame.fine, UNKNOWN, objects.dtype)
    found[scan_in(frame)] = objects
    return found


def scan_in(frame: Frame) -> tuple[slice, slice, slice]:
    """Where the scan lies among the predicted voxels of a frame of step 1."""
    d, h, w = (slice(-first, size - first) for first, size in zip(frame.start, frame.voxels, strict=True))
    return d, h, w


def _numbered(ids: NDArray[np.uint64], ignore: Sequence[int]) -> NDArray[Any]:
    held = np.unique(np.concatenate([np.unique(section) for section in ids]))
    says_nothing = np.isin(held, np.array(ignore, np.uint64))
    is_object = (held != 0) & ~says_nothing
    count = int(is_object.sum())
    if count < 2:
        what = f"one object (id {held[is_object][0]})" if count else "no object"
        raise VolumeError(f"{what} in its labels, and affinities are of several: give each an id of its own")
    numbers = np.full(len(held), NOTHING, np.min_scalar_type(count + UNKNOWN))
    numbers[says_nothing] = UNKNOWN
    numbers[is_object] = UNKNOWN + np.arange(1, count + 1)
    found = np.empty(ids.shape, numbers.dtype)
    for section, numbered in zip(ids, found, strict=True):  # places of all at once would be as large as the ids
        numbered[:] = numbers[np.searchsorted(held, section)]
    return found


def _affine(case: Case, mask: Instances) -> Affine | None:
    """Where a mask lies; one that does not say so lies as the scan's file."""
    if mask.affine is not None:
        return mask.affine
    of_file = case.attributes.get("affine_read")
    return None if of_file is None else np.array(of_file)


def _check_place(case: Case, mask: Instances) -> None:
    if mask.source is not None and is_the_scan(case, mask.source):
        raise VolumeError("its labels are the scan itself: name the array of the labels, as in FILE::NAME")
    of_file = tuple(case.attributes.get("shape_read", case.scan_shape))
    if mask.array.shape != of_file:
        raise VolumeError(f"labels of {_times(mask.array.shape)} voxels, a scan of {_times(of_file)}")
    affine = case.attributes.get("affine_read")
    if affine is not None and mask.affine is not None and not _is_close(mask.affine, np.array(affine)):
        raise VolumeError("its labels lie elsewhere than its scan, or have another resolution: correct their header")
    if affine is None and mask.array.shape != case.scan_shape:
        raise VolumeError("its scan does not say where it lies and was cut or resized: extract it as it is")


def _is_close(one: Affine, other: Affine) -> bool:
    """Whether voxels meet to a thousandth of the smallest."""
    return bool(np.abs(one - other).max() <= 1e-3 * np.linalg.norm(other[:3, :3], axis=0).min())


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

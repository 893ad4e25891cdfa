"""The objects of a case, as heads learn them and are scored by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import FeatliftError, VolumeError
from featlift.segmentation.data.frame import Frame
from featlift.store.case import Case
from featlift.store.objects import check_shape, ids_in, is_close, on_scan, read_objects, renumbered
from featlift.volumes.instances import Instances
from featlift.volumes.source import MaskFile

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
        mask = read_objects(case, file)
        _check_place(case, mask)
        return on_scan(case, _numbered(mask.array, ignore), mask.affine)
    except FeatliftError as error:
        raise type(error)(f"{case.id}: {error}") from error


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
    held = ids_in(ids)
    says_nothing = np.isin(held, np.array(ignore, np.uint64))
    is_object = (held != 0) & ~says_nothing
    count = int(is_object.sum())
    if count < 2:
        what = f"one object (id {held[is_object][0]})" if count else "no object"
        raise VolumeError(f"{what} in its labels, and affinities are of several: give each an id of its own")
    numbers = np.full(len(held), NOTHING, np.min_scalar_type(count + UNKNOWN))
    numbers[says_nothing] = UNKNOWN
    numbers[is_object] = UNKNOWN + np.arange(1, count + 1)
    return renumbered(ids, held, numbers)


def _check_place(case: Case, mask: Instances) -> None:
    check_shape(case, mask)
    affine = case.attributes.get("affine_read")
    if affine is not None and mask.affine is not None and not is_close(mask.affine, np.array(affine)):
        raise VolumeError("its labels lie elsewhere than its scan, or have another resolution: correct their header")

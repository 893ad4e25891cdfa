"""Masks of objects on the voxels of a case's stored scan, under numbers that follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.store.case import Case
from featlift.store.features import is_the_scan
from featlift.volumes.discovery.series import source_of
from featlift.volumes.grid import on_grid
from featlift.volumes.instances import Instances, instances_in
from featlift.volumes.opening import Reading
from featlift.volumes.source import MaskFile, Source
from featlift.volumes.volume import Affine


def read_objects(case: Case, file: MaskFile) -> Instances:
    """The mask of a case's objects; one that does not say where it lies lies as the scan's file.

    Raises:
        VolumeError: it is damaged, no mask of ids, the scan itself, or of another shape where nothing says where it or
            the scan lies.
        InputError: it is missing.
    """
    source = file if isinstance(file, Source) else source_of(file)
    mask = instances_in(source, Reading())
    if mask.source is not None and is_the_scan(case, mask.source):
        raise VolumeError("its labels are the scan itself: name the array of the labels, as in FILE::NAME")
    if mask.affine is None or case.scan_affine is None:
        check_shape(case, mask)
    of_file = case.attributes.get("affine_read")
    return mask if mask.affine is not None or of_file is None else replace(mask, affine=np.array(of_file))


def check_shape(case: Case, mask: Instances) -> None:
    """Make sure that a mask has as many voxels as the file of the scan.

    Raises:
        VolumeError: it has not.
    """
    of_file = tuple(case.attributes.get("shape_read", case.scan_shape))
    if mask.array.shape != of_file:
        raise VolumeError(f"labels of {_times(mask.array.shape)} voxels, a scan of {_times(of_file)}")


def ids_in(array: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every id of a mask once, in order."""
    return np.unique(np.concatenate([np.unique(section) for section in array]))


def renumbered(array: NDArray[np.uint64], ids: NDArray[np.uint64], numbers: NDArray[Any]) -> NDArray[Any]:
    """A mask with the numbers of its ids, of their type, in the place of these.

    Args:
        array: ``(D, H, W)``.
        ids: see `ids_in`.
        numbers: of each.
    """
    found = np.empty(array.shape, numbers.dtype)
    for section, numbered in zip(array, found, strict=True):  # places of all at once would be as large as the ids
        numbered[:] = numbers[np.searchsorted(ids, section)]
    return found


def on_scan(case: Case, numbers: NDArray[Any], affine: Affine | None) -> NDArray[Any]:
    """Numbers of a mask at the voxels of the stored scan ``(D, H, W)``: each takes the nearest, 0 beyond the mask.

    Raises:
        VolumeError: nothing says where they lie, and they have another shape than the scan.
    """
    of_scan = case.scan_affine
    if affine is None or of_scan is None:
        if numbers.shape != case.scan_shape:
            raise VolumeError("its scan does not say where it lies and was cut or resized: extract it as it is")
        return numbers
    if numbers.shape == case.scan_shape and is_close(affine, of_scan):
        return numbers
    return on_grid(numbers, affine, case.scan_shape, of_scan, order=0)


def is_close(one: Affine, other: Affine) -> bool:
    """Whether voxels meet to a thousandth of the smallest."""
    return bool(np.abs(one - other).max() <= 1e-3 * np.linalg.norm(other[:3, :3], axis=0).min())


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

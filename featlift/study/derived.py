"""Scans of a cohort made anew, as a control: padded at random, or their slices averaged to thick ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import write_atomically
from featlift.errors import VolumeError
from featlift.progress import Progress, counted
from featlift.study.plan import Cohort
from featlift.volumes import Scan, find_scans, read, read_mask
from featlift.volumes.nifti import write_nifti
from featlift.volumes.orientation import lps_axes
from featlift.volumes.source import MaskFile
from featlift.volumes.volume import Affine, Volume, scaled, spacing_of

_Array = NDArray[np.generic]
_Masks = Mapping[str, MaskFile]


def derived_scans(
    scans: Sequence[Scan], masks: _Masks, cohort: Cohort, folder: Path, progress: Progress | None = None
) -> tuple[list[Scan], _Masks]:
    """The scans of a cohort with `pad_at_random` and `slice_thickness` applied, and their masks.

    Masks are padded as the scans, and keep their thin slices: predictions are scored on what was drawn.

    Args:
        scans: of the cohort.
        masks: the path of the mask of each that has one, by its id.
        cohort: says what is done.
        folder: for the new files; what it holds already is left.
        progress: told of scans that are made.

    Raises:
        VolumeError: a scan cannot be read, its geometry is unknown, its mask is on another grid, or its slices are
            thicker than they shall be.
        OutputError: the folder cannot be written.
    """
    by_id = {scan.id: scan for scan in scans}
    for case_id in counted(list(by_id), "making scans anew", progress):
        scan, mask = folder / "scans" / f"{case_id}.nii.gz", folder / "masks" / f"{case_id}.nii.gz"
        if not scan.exists():  # written after the mask
            try:
                _derive(by_id[case_id], masks.get(case_id), cohort, scan, mask)
            except VolumeError as error:
                raise VolumeError(f"{case_id}: {error}") from error
    found = find_scans([folder / "scans"], refused=[])
    new = [replace(scan, labels=by_id[scan.id].labels) for scan in found.scans if scan.id in by_id]
    return new, {case_id: folder / "masks" / f"{case_id}.nii.gz" for case_id in masks}


def _derive(scan: Scan, mask: MaskFile | None, cohort: Cohort, to_scan: Path, to_mask: Path) -> None:
    source = scan.sources[0]
    volume = read(source.path, key=source.key, frame=source.frame)
    affine = _affine(volume)
    before, after = _ends(scan.id, affine, cohort.pad_at_random)
    if mask is not None:
        truth = read_mask(mask)
        if truth.affine is None or truth.array.shape != volume.array.shape:
            raise VolumeError("its mask is on another grid than the scan, so they cannot be padded together")
        _write(to_mask, *_padded(truth.array.astype(np.int32), truth.affine, before, after, "constant"))
    padded, placed = _padded(volume.array, affine, before, after, "edge")
    _write(to_scan, *_averaged(padded, placed, cohort.slice_thickness))


def _affine(volume: Volume) -> Affine:
    if volume.affine is None:
        raise VolumeError("its geometry is unknown, so that it has no millimetres to pad or to average over")
    return volume.affine


def _ends(case_id: str, affine: Affine, millimetres: float) -> tuple[list[int], list[int]]:
    """Voxels to add before the first and after the last of each axis: as many in all for every case."""
    rng = np.random.default_rng(list(case_id.encode()))  # the same in every run, on every machine
    total = [round(millimetres / spacing) for spacing in spacing_of(affine)]
    before = [int(rng.integers(size + 1)) for size in total]
    return before, [size - first for size, first in zip(total, before, strict=True)]


def _padded(array: _Array, affine: Affine, before: list[int], after: list[int], mode: str) -> tuple[_Array, Affine]:
    padded = np.pad(array, list(zip(before, after, strict=True)), mode=mode)  # type: ignore[call-overload]
    return padded, scaled(affine, (1.0, 1.0, 1.0), tuple(-float(first) for first in before))


def _averaged(array: _Array, affine: Affine, thickness: float) -> tuple[_Array, Affine]:
    """Means of as many neighbouring axial slices as `thickness` holds; the last repeated to a whole number of them."""
    if not thickness:
        return array, affine
    axis = lps_axes(affine)[0][0]
    count = round(thickness / spacing_of(affine)[axis])
    if count < 1:
        raise VolumeError(f"its slices are {spacing_of(affine)[axis]:g} mm apart, more than {thickness:g}")
    slices = np.moveaxis(array, axis, 0)
    slices = np.concatenate([slices, np.repeat(slices[-1:], -len(slices) % count, axis=0)])
    means = slices.reshape(-1, count, *slices.shape[1:]).mean(axis=1, dtype=np.float32)
    scale, offset = np.ones(3), np.zeros(3)
    scale[axis], offset[axis] = count, (count - 1) / 2
    return np.moveaxis(means, 0, axis), scaled(affine, tuple(scale), tuple(offset))


def _write(path: Path, array: _Array, affine: Affine) -> None:
    write_atomically(path, partial(write_nifti, array=array, affine=affine))

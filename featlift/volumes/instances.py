"""Masks of many objects, one id each: read exactly, whatever the ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.remote import Remote
from featlift.volumes.discovery.series import source_of
from featlift.volumes.opening import MAX_VOXELS, Reading, error_context, read_stored
from featlift.volumes.source import Source
from featlift.volumes.volume import Affine, spacing_of

#: In a millimetre.
NANOMETRES = 1e6


@dataclass(frozen=True, eq=False)
class Instances:
    """One mask of objects.

    Attributes:
        array: ``(D, H, W)`` uint64: the id of the object that each voxel belongs to, 0 where there is none.
        affine: 4x4, maps indices ``(d, h, w, 1)`` to LPS millimetres; None where the file does not say.
        source: what identifies the file: its ``bytes``, ``mtime_ns`` and ``sha256``.
    """

    array: NDArray[np.uint64]
    affine: Affine | None = None
    source: dict[str, Any] | None = None

    @property
    def resolution(self) -> tuple[float, float, float] | None:
        """Nanometres between voxels along (d, h, w), or None."""
        if self.affine is None:
            return None
        d, h, w = spacing_of(self.affine)
        return d * NANOMETRES, h * NANOMETRES, w * NANOMETRES


def read_instances(
    path: str | Path | Remote, *, key: str | None = None, frame: int | None = None, max_voxels: int = MAX_VOXELS
) -> Instances:
    """Read one mask of objects, of any number and with ids up to 2^64 - 1, which `read` would round.

    Args:
        path: any file that `read` takes and that holds whole numbers; ``sample_A.hdf::volumes/labels/neuron_ids`` is
            one of CREMI.
        key: the array inside, of files that hold several.
        frame: which of several frames, counted from 0.
        max_voxels: refuse larger volumes before allocating.

    Raises:
        InputError: no such file.
        VolumeError: not readable, or its voxels are no ids: fractions, negative numbers, floating point.
    """
    source = source_of(path)
    return instances_in(replace(source, key=key or source.key, frame=frame), Reading(max_voxels))


def instances_in(source: Source, reading: Reading) -> Instances:
    """The mask of objects at a place that was found; see `read_instances` for what it raises."""
    if source.labels:
        raise VolumeError("structures with names, where objects are numbered: give a mask of their ids")
    image, stored, identified = read_stored(source, reading)
    with error_context(source.path):
        if stored.dtype.kind not in "biu":
            raise VolumeError(
                f"no ids of objects: its voxels are {stored.dtype}, which rounds large ones; save them as uint64"
            )
        if stored.dtype.kind == "i" and (least := int(stored.min())) < 0:
            raise VolumeError(f"no ids of objects: the least is {least}; save them as uint64, 0 where there is none")
        array = stored.astype(np.uint64, order="C")
    return Instances(array, None if image.affine is None else image.affine.copy(), identified)

"""Landmarks of a scan: a CSV with ``id,x,y,z`` in millimetres of the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlift.errors import InputError, VolumeError
from featlift.metrics.fields import target_registration_errors
from featlift.registration.field import DisplacementField
from featlift.tables import read_table
from featlift.volumes.volume import spacing_of

_WANTED = "landmarks are a CSV with id,x,y,z in millimetres"
_COLUMNS = ("id", "x", "y", "z")

#: By id, ``(3,)`` in LPS millimetres.
Landmarks = dict[str, NDArray[np.float64]]


def read_landmarks(path: Path, ras: bool = False) -> Landmarks:
    """Landmarks by their ids, in LPS millimetres as ITK, ANTs and elastix have them.

    Args:
        path: of the CSV.
        ras: it is in RAS, as nibabel and FreeSurfer have it: x and y have the other sign.

    Raises:
        InputError: no such file, a column or number that is missing, an id twice, or none at all.
    """
    table = read_table(path, _COLUMNS, _WANTED)
    if missing := [name for name in _COLUMNS if name not in table.names]:
        raise InputError(f"{path}: no column {missing[0]!r}; {_WANTED}")
    found: Landmarks = {}
    for line, row in zip(table.lines, table.dicts(), strict=True):
        try:
            place = np.array([float(row[axis]) for axis in "xyz"])
        except ValueError as error:
            raise InputError(f"{path.name}, line {line}: {error}; {_WANTED}") from error
        if not np.isfinite(place).all() or row["id"] in found:
            raise InputError(f"{path.name}, line {line}: an id that stands there twice, or a place that is not finite")
        found[row["id"]] = place * [-1, -1, 1] if ras else place
    if not found:
        raise InputError(f"{path}: it holds no landmark; {_WANTED}")
    return found


def landmark_errors(field: DisplacementField, fixed: Landmarks, moving: Landmarks) -> NDArray[np.float64]:
    """How far from its partner in the moving scan the field takes each landmark of the fixed one, in mm, ``(N,)``.

    Landmarks meet by their ids; those of one scan only do not count.

    Raises:
        VolumeError: none is of both scans, or one lies outside the field.
    """
    ids = [name for name in fixed if name in moving]
    if not ids:
        raise VolumeError("the landmarks of the two scans have no id in common")
    to_voxels = np.linalg.inv(field.affine)
    ends = [np.array([each[name] for name in ids]) @ to_voxels[:3, :3].T + to_voxels[:3, 3] for each in (fixed, moving)]
    outside = (ends[0] < -0.5) | (ends[0] > np.array(field.shape) - 0.5)
    if outside.any():
        first = ids[int(outside.any(axis=1).argmax())]
        raise VolumeError(f"landmark {first} lies outside the fixed scan: are they in RAS (--ras), or of another scan?")
    return target_registration_errors(field.in_voxels, ends[0], ends[1], spacing_of(field.affine))

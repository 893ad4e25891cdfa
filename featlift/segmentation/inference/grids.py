"""Whose voxels a prediction has: those of the case's own file, of another image, or of the stored scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from featlift.errors import InputError, OptionError, VolumeError
from featlift.names import stays_below
from featlift.store.case import Case
from featlift.store.reading import Store
from featlift.volumes.discovery.series import source_of
from featlift.volumes.grid import Shape
from featlift.volumes.opening import open_image
from featlift.volumes.volume import Affine

#: ``input``: the voxels of a scan's own file. ``stored``: those of the stored scan, after orienting, crop and size.
Voxels = Literal["input", "stored"]


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """Voxels in the patient.

    Attributes:
        shape: (D, H, W).
        affine: maps indices ``(d, h, w, 1)`` to LPS millimetres.
    """

    shape: Shape
    affine: Affine


def grids_of(
    store: Store, ids: Sequence[str], voxels: Voxels = "input", like: Path | None = None
) -> dict[str, ImageGrid]:
    """The grid of each case's prediction; a case that is not in it has that of its stored scan.

    Args:
        store: of the cases.
        ids: of the cases.
        voxels: what is asked for.
        like: the folder of the scans that were extracted, or the scan of the only case; None goes by what the store
            recorded of them.

    Raises:
        OptionError: no such choice, or `like` beside ``stored``.
        InputError: `like` lacks a scan.
        VolumeError: a scan of `like` cannot be read, or does not say where it lies.
    """
    if voxels not in get_args(Voxels):
        raise OptionError(f"grid {voxels!r}: choose {' or '.join(get_args(Voxels))}")
    if like is not None:
        if voxels == "stored":
            raise OptionError("--like takes the voxels of a file, --grid stored those of the stored scan: give one")
        return {case_id: _grid_like(store[case_id], like, alone=len(ids) == 1) for case_id in ids}
    if voxels == "stored":
        return {}
    own = {case_id: _own_grid(store[case_id]) for case_id in ids}
    return {case_id: grid for case_id, grid in own.items() if grid is not None}


def _own_grid(case: Case) -> ImageGrid | None:
    """The grid of a case's file as it was read.

    None for a region, of whose scan nobody wants all, for a scan that does not say where it lies, and for a volume of a
    store from before this was recorded.
    """
    affine = case.attributes.get("affine_read")
    if affine is None or case.attributes["selection"].get("centre") is not None:
        return None
    depth, height, width = case.attributes["shape_read"]
    return ImageGrid((depth, height, width), np.array(affine))


def _grid_like(case: Case, like: Path, alone: bool) -> ImageGrid:
    name = case.attributes["source"]["name"]
    path = like if like.is_file() and alone else like / name
    if not stays_below(name) or not path.exists():
        raise InputError(f"{path}: no such scan; --like takes the folder that {case.id} was extracted from")
    image = open_image(source_of(path))
    if image.affine is None or case.scan_affine is None:
        raise VolumeError(f"{case.id}: its scan does not say where it lies, so --like cannot find its voxels")
    return ImageGrid(image.shape, image.affine)

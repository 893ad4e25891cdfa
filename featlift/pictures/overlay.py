"""A map of numbers that was written for a case, such as what attention looks at, on the voxels of its scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.store.case import Case
from featlift.store.features import grid_of
from featlift.volumes.grid import on_grid
from featlift.volumes.reading import read


def find_overlays(
    folder: Path, names: Mapping[str, str], cases: Iterable[str], maps: Sequence[str]
) -> dict[str, dict[str, Path]]:
    """The files of maps, ``<name>_<map>.nii.gz``, by map, of each of these cases that has them all.

    Args:
        folder: where they are.
        names: of files, by case id, see `featlift.names.file_names`.
        cases: ids.
        maps: which, such as ``attention``.

    Raises:
        OptionError: no case has them.
    """
    found = {}
    for case_id in cases:
        paths = {each: folder / f"{names.get(case_id, case_id)}_{each}.nii.gz" for each in maps}
        if paths and all(path.exists() for path in paths.values()):
            found[case_id] = paths
    if not found:
        wanted = " and ".join(f"<id>_{each}.nii.gz" for each in maps) or "maps"
        raise OptionError(f"--overlay {folder}: no {wanted} of these cases there; --maps says which")
    return found


def overlay_of(case: Case, path: Path) -> NDArray[np.float32]:
    """The values of a map at the voxels of the stored scan ``(D, H, W)``, linear between its own, nan beyond it.

    Args:
        case: whose map it is.
        path: of a volume with its own affine; where that or the scan's is unknown it has the voxels of the scan, or the
            cells of one of the layers.

    Raises:
        InputError: no such file.
        VolumeError: it is damaged, of another place, or nothing says where it lies.
    """
    volume = read(path)
    if volume.affine is not None and case.scan_affine is not None:
        values = on_grid(volume.array, volume.affine, case.scan_shape, case.scan_affine, order=1, fill_value=np.nan)
        if np.isnan(values).all():
            raise VolumeError(f"{path.name} does not overlap the scan: is it of this case?")
        return np.asarray(values)
    if volume.array.shape == case.scan_shape:
        return volume.array
    for layer in case.layers.values():
        if volume.array.shape == layer.valid_cells:
            return grid_of(case, layer).upsample(volume.array)
    raise VolumeError(
        f"{path.name}: it or the scan does not say where it lies, and it has neither its voxels nor cells"
    )

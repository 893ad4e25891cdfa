"""`open_series`: the files of one series to one image, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.dicom.geometry import Grid
from featlift.volumes.dicom.likeness import check_alike
from featlift.volumes.dicom.phases import stacks_of
from featlift.volumes.dicom.pixels import load_slices
from featlift.volumes.dicom.resampling import resampled
from featlift.volumes.dicom.slices import Slice, read_slices
from featlift.volumes.image import Image


def open_series(root: Path, members: Sequence[str], *, allow_irregular: bool = False) -> Image:
    """Read the headers of a series and check that its slices make one regular grid.

    Distances between slices come from positions only: SliceThickness is how much of the patient a slice averages,
    not how far the next one is.

    Args:
        root: the folder or .zip that `find_series` searched.
        members: the files of the series, by their paths below it, in any order.
        allow_irregular: resample missing slices, irregular spacing and gantry tilt onto a regular grid along the
            normal of the slices, instead of refusing them.

    Returns:
        The image, its slices ordered by their position along rows x columns. Its notes say by which tag its
        ``frames`` are told apart, and why and how it was ``resampled``.

    Raises:
        VolumeError: a damaged file, or slices that are no regular grid; `Image.load` raises it for damaged pixels.
    """
    slices = read_slices(root, members)
    check_alike(slices)
    stacks, by = stacks_of(slices)
    grid, *others = map(Grid.of, stacks)
    _check_same_place(grid, others)
    defects = list(grid.defects())
    if defects and not allow_irregular:
        found = "; ".join(defect.message for defect in defects)
        raise VolumeError(f"{found}: copy the series again, or resample it with --allow-irregular")
    count = grid.regular_count if defects else len(grid.stack)
    affine = grid.affine(count, upright=grid.is_tilted)
    notes: dict[str, Any] = {"frames": {"by": by}} if by else {}
    if defects:
        notes["resampled"] = {
            "because": ", ".join(defect.name for defect in defects),
            "slices": len(grid.stack),
            "spacing": round(float(np.ptp(grid.heights)) / (count - 1), 4),
            "largest_step": round(float(grid.steps.max()), 4),
        }

    def load(frame: int) -> NDArray[np.float32]:
        volume = load_slices(root, stacks[frame])
        return resampled(volume, grid, count) if defects else volume

    shape = (count, *slices[0].shape)
    return Image(shape, load, affine, len(stacks), slices[0].modality, notes)


def _check_same_place(grid: Grid, others: Sequence[Grid]) -> None:
    half_a_pixel = 0.5 * min(grid.stack[0].spacing)
    for other in others:
        apart = np.abs(_positions(grid.stack) - _positions(other.stack)).max()
        if apart > half_a_pixel:
            raise VolumeError(f"its phases lie {apart:.2f} mm apart in plane: keep one of them in the folder")


def _positions(stack: Sequence[Slice]) -> NDArray[np.float64]:
    return np.stack([one.position for one in stack])

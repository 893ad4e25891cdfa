"""`prepare`: from a volume as read to what the backbone sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.volumes.grid import Shape, resample, target_shape
from featlift.volumes.intensity import Intensity
from featlift.volumes.orientation import Orientation, orient_lps
from featlift.volumes.volume import Affine, Volume


@dataclass(frozen=True)
class Preparation:
    """What happens to a volume before lifting. All of it is part of the recipe.

    Attributes:
        orient: axis order, see `featlift.volumes.orientation.Orientation`.
        intensity: how values become [0, 1].
        spacing: wanted millimetres, see `featlift.volumes.grid.target_shape`.
        size: wanted voxels, likewise.
        nan_to: value that takes the place of NaN and infinities; None refuses them.
    """

    orient: Orientation = "LPS"
    intensity: Intensity = field(default_factory=Intensity)
    spacing: tuple[float, ...] = ()
    size: tuple[int, ...] = ()
    nan_to: float | None = None

    def __post_init__(self) -> None:
        plain: dict[str, Any] = {}  # what people write: "ct:soft", 1.5, 448
        if isinstance(self.intensity, str):
            plain["intensity"] = Intensity(self.intensity)
        if isinstance(self.size, int):
            plain["size"] = (self.size,)
        if isinstance(self.spacing, (int, float)):
            plain["spacing"] = (float(self.spacing),)
        if len(spacing := plain.get("spacing", self.spacing)) == 1:
            plain["spacing"] = tuple(spacing) * 3
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if self.orient not in get_args(Orientation):
            raise OptionError(f"orient {self.orient!r}: choose one of {', '.join(get_args(Orientation))}")
        if len(self.spacing) not in (0, 1, 3) or any(not 0 <= value < 1000 for value in self.spacing):
            raise OptionError(f"spacing {self.spacing}: give millimetres for all axes at once, or for D,H,W")
        if len(self.size) > 3 or any(value < 0 for value in self.size) or (len(self.size) == 1 and not self.size[0]):
            raise OptionError(f"size {self.size}: give the longer in-plane side, H,W or D,H,W")
        if self.nan_to is not None and not abs(self.nan_to) <= float(np.finfo(np.float32).max):
            raise OptionError(f"nan-to {self.nan_to}: give a number that float32 holds")


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the backbone sees of a volume, before padding.

    Attributes:
        scan: ``(1 or 3, D, H, W)`` float32 in [0, 1].
        affine: of `scan`, or None.
        windows: for each channel, the values of the file that became 0 and 1.
        shape_read: (D, H, W) of the volume as read.
    """

    scan: NDArray[np.float32]
    affine: Affine | None
    windows: list[tuple[float, float]]
    shape_read: Shape

    @property
    def shape(self) -> Shape:
        """(D, H, W) of the scan."""
        return _shape(self.scan)


def prepare(volume: Volume, preparation: Preparation | None = None) -> Prepared:
    """Orient, scale to [0, 1] and resample a volume.

    Raises:
        VolumeError: NaN or infinite voxels without `nan_to`, a constant volume, or an unknown spacing that is needed.
    """
    how = preparation or Preparation()
    array, affine = volume.array, volume.affine
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        if how.nan_to is None:
            raise VolumeError(f"{bad:,} voxels are NaN or infinite: give --nan-to VALUE to replace them")
        array = np.nan_to_num(array, nan=how.nan_to, posinf=how.nan_to, neginf=how.nan_to)
    if how.orient == "LPS" and affine is not None:
        array, affine = orient_lps(array, affine)
    channels, windows = how.intensity.apply(array)
    scan, affine = resample(channels, affine, target_shape(_shape(array), affine, how.spacing, how.size))
    return Prepared(scan, affine, windows, _shape(volume.array))


def _shape(array: NDArray[np.float32]) -> Shape:
    depth, height, width = array.shape[-3:]
    return depth, height, width

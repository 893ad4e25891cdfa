"""`prepare`: from a volume as read to what the backbone sees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featlift.config import PreparationConfig
from featlift.errors import OptionError, VolumeError
from featlift.volumes.grid import Shape, resample, target_shape
from featlift.volumes.intensity import Intensity
from featlift.volumes.orientation import Orientation, lps_grid, orient_lps
from featlift.volumes.regions import Box, body_box, box_around, cut, nonzero_box
from featlift.volumes.splines import resample_cubic
from featlift.volumes.volume import Affine, Volume, scaled

_BODY_MARGIN = 10.0  # mm

Resampling = Literal["linear", "cubic"]

#: How channels end that lie on another grid than the first. ``edge``: with their outermost voxels up to the edges of
#: these. ``mixed``: fading into their lowest value, as in stores that began before.
ChannelEdges = Literal["edge", "mixed"]


@dataclass(frozen=True)
class Preparation:
    """What happens to a volume before lifting. All of it is part of the recipe.

    Attributes:
        orient: axis order, see `featlift.volumes.orientation.Orientation`.
        intensity: how values become [0, 1].
        spacing: wanted millimetres, see `featlift.volumes.grid.target_shape`.
        size: wanted voxels, likewise.
        nan_to: value that takes the place of NaN and infinities; None refuses them.
        crop: ``body`` keeps the box around the foreground with 10 mm around it, ``body:MM`` with another margin;
            ``nonzero`` the box around all that is not zero, on which intensities are measured then.
        roi_mm: size of the box around each region of interest, along d, h and w after orienting.
        depth_stride: keep every n-th slice.
        channels: how channels on other grids end; None for scans of one file, of which there are none.
        resampling: ``linear``, low-passed when shrinking, or ``cubic`` splines as nnU-Net's.
    """

    orient: Orientation = "LPS"
    intensity: Intensity = field(default_factory=Intensity)
    spacing: tuple[float, ...] = ()
    size: tuple[int, ...] = ()
    nan_to: float | None = None
    crop: str | None = None
    roi_mm: tuple[float, ...] = ()
    depth_stride: int = 1
    channels: ChannelEdges | None = None
    resampling: Resampling = "linear"

    def __post_init__(self) -> None:
        plain: dict[str, Any] = {}  # what people write: "ct:soft", 1.5, 448
        if isinstance(self.intensity, str):
            plain["intensity"] = Intensity(self.intensity)
        plain["size"] = (self.size,) if isinstance(self.size, int) else tuple(self.size)
        for name in ("spacing", "roi_mm"):
            values = getattr(self, name)
            values = (values,) if isinstance(values, (int, float)) else values
            values = tuple(float(value) for value in values)
            plain[name] = values * 3 if len(values) == 1 else values
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        if self.orient not in get_args(Orientation):
            raise OptionError(f"orient {self.orient!r}: choose one of {', '.join(get_args(Orientation))}")
        if self.resampling not in get_args(Resampling):
            raise OptionError(f"resampling {self.resampling!r}: choose one of {', '.join(get_args(Resampling))}")
        if len(self.spacing) not in (0, 3) or any(not 0 <= value < 1000 for value in self.spacing):
            raise OptionError(f"spacing {self.spacing}: give millimetres for all axes at once, or for D,H,W")
        if len(self.size) > 3 or any(value < 0 for value in self.size) or (len(self.size) == 1 and not self.size[0]):
            raise OptionError(f"size {self.size}: give the longer in-plane side, H,W or D,H,W")
        if self.nan_to is not None and not abs(self.nan_to) <= float(np.finfo(np.float32).max):
            raise OptionError(f"nan-to {self.nan_to}: give a number that float32 holds")
        if self.crop is not None and not re.fullmatch(r"nonzero|body(:\d+(\.\d+)?)?", self.crop):
            raise OptionError(f"crop {self.crop!r}: give body, body:MM with the margin to leave, or nonzero")
        if len(self.roi_mm) not in (0, 3) or any(not 0 < value < 10_000 for value in self.roi_mm):
            raise OptionError(f"roi-mm {self.roi_mm}: give millimetres for all axes at once, or for D,H,W")
        if self.crop and self.roi_mm:
            raise OptionError("crop and roi-mm: a region of interest is a crop already, give one of them")
        if not isinstance(self.depth_stride, int) or self.depth_stride < 1:
            raise OptionError(f"depth-stride {self.depth_stride}: give 1 for every slice, 2 for every second one, ...")

    @classmethod
    def of(cls, config: PreparationConfig) -> Preparation:
        """What a configuration asks for."""
        return cls(**{**vars(config), "intensity": Intensity(config.intensity)})

    def as_recipe(self) -> dict[str, Any]:
        """Its part of a store's recipe, as JSON values."""
        return {
            "orient": self.orient,
            "intensity": self.intensity.canonical,
            "spacing": list(self.spacing),
            "size": list(self.size),
            "nan_to": self.nan_to,
            "crop": self.crop,
            "roi_mm": list(self.roi_mm) or None,
            "depth_stride": self.depth_stride if self.depth_stride > 1 else None,
            "padding": "edge",
            **({"channels": "edge"} if self.channels == "edge" else {}),
            **({"resampling": self.resampling} if self.resampling != "linear" else {}),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Preparation:
        """The preparation that a store's recipe records."""
        return cls(
            recipe["orient"],
            Intensity(recipe["intensity"]),
            tuple(recipe["spacing"]),
            tuple(recipe["size"]),
            recipe["nan_to"],
            recipe.get("crop"),
            tuple(recipe.get("roi_mm") or ()),
            recipe.get("depth_stride") or 1,
            recipe.get("channels"),
            recipe.get("resampling", "linear"),
        )


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the backbone sees of a volume, before padding.

    Attributes:
        scan: ``(1 or 3, D, H, W)`` float32 in [0, 1].
        affine: of `scan`, or None.
        windows: for each channel, the values of the file that became 0 and 1.
        shape_read: (D, H, W) of the volume as read.
        affine_read: of the volume as read, or None.
        box: of the voxels that were kept, on the grid of the volume after orienting; None keeps all.
    """

    scan: NDArray[np.float32]
    affine: Affine | None
    windows: list[tuple[float, float]]
    shape_read: Shape
    affine_read: Affine | None
    box: Box | None = None

    @property
    def shape(self) -> Shape:
        """(D, H, W) of the scan."""
        return _shape(self.scan)


def prepare(
    volume: Volume,
    preparation: Preparation | Mapping[str, Any] | None = None,
    centre: tuple[float, float, float] | None = None,
) -> Prepared:
    """Orient, crop, scale to [0, 1] and resample a volume.

    Args:
        volume: as read.
        preparation: what to do, or the recipe of a store whose volumes were made so.
        centre: of a region of interest of `roi_mm`, (x, y, z) in LPS millimetres.

    Raises:
        VolumeError: NaN or infinite voxels without `nan_to`, a constant volume, a centre outside it, or an unknown
            spacing that is needed.
    """
    how = Preparation.from_recipe(preparation) if isinstance(preparation, Mapping) else preparation or Preparation()
    array, affine = _finite(volume.array, how.nan_to), volume.affine
    if how.orient == "LPS" and affine is not None:
        array, affine = orient_lps(array, affine)
    box = _box(array, affine, how, centre)
    part, affine = (array, affine) if box is None else cut(array, affine, box)
    if how.depth_stride > 1:
        part = part[..., :: how.depth_stride, :, :]
        affine = None if affine is None else scaled(affine, (how.depth_stride, 1, 1), (0, 0, 0))
    measured = part if how.crop == "nonzero" else array  # a part looks as it does in its scan
    channels, windows = how.intensity.apply(part, measured)
    shape = target_shape(_shape(part), affine, how.spacing, how.size)
    if how.resampling == "cubic":
        scan, affine = resample_cubic(channels, affine, shape, how.spacing)
    else:
        scan, affine = resample(channels, affine, shape)
    return Prepared(scan, affine, windows, _shape(volume.array), volume.affine, box)


def expected_grids(
    shape: Shape, affine: Affine | None, how: Preparation, centre: tuple[float, float, float] | None = None
) -> list[tuple[Shape, Affine | None]]:
    """What the header alone tells of `prepare`: (D, H, W) after orienting, and at its end but for a crop of the body.

    Args:
        shape: (D, H, W) of the file.
        affine: of the file.
        how: the preparation.
        centre: of a region of interest.

    Returns:
        Both grids; the affine of the second is right in its spacing only.

    Raises:
        VolumeError: a spacing is asked for and the volume's is unknown, or a region lies outside.
    """
    if how.orient == "LPS" and affine is not None:
        shape, affine = lps_grid(shape, affine)
    kept, strided = shape, affine
    if centre is not None and how.roi_mm:
        kept = box_around(shape, affine, centre, how.roi_mm).shape
    if how.depth_stride > 1:
        kept = -(-kept[0] // how.depth_stride), kept[1], kept[2]
        strided = None if affine is None else scaled(affine, (how.depth_stride, 1, 1), (0, 0, 0))
    final = target_shape(kept, strided, how.spacing, how.size)
    if strided is not None:
        steps = (kept[0] / final[0], kept[1] / final[1], kept[2] / final[2])
        strided = scaled(strided, steps, (0, 0, 0))
    return [(shape, affine), (final, strided)]


def _finite(array: NDArray[np.float32], nan_to: float | None) -> NDArray[np.float32]:
    bad = array.size - int(np.isfinite(array).sum())
    if not bad:
        return array
    if nan_to is None:
        raise VolumeError(f"{bad:,} voxels are NaN or infinite: give --nan-to VALUE to replace them")
    return np.nan_to_num(array, nan=nan_to, posinf=nan_to, neginf=nan_to)


def _box(
    array: NDArray[np.float32], affine: Affine | None, how: Preparation, centre: tuple[float, float, float] | None
) -> Box | None:
    if (centre is None) != (not how.roi_mm):
        raise OptionError("a region of interest needs a centre and a size: give roi_mm (--roi-mm) with --roi")
    if centre is not None:
        return box_around(_shape(array), affine, centre, how.roi_mm)
    if how.crop is None:
        return None
    if how.crop == "nonzero":
        return nonzero_box(array)
    foreground = array if array.ndim == 3 else array[0]
    return body_box(foreground, affine, float(how.crop.partition(":")[2] or _BODY_MARGIN))


def _shape(array: NDArray[np.float32]) -> Shape:
    depth, height, width = array.shape[-3:]
    return depth, height, width

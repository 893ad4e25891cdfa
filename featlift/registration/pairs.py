"""`register`: from two scans, each in its own space, to the field between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.metrics.fields import folds, sdlogj
from featlift.progress import Progress, steps
from featlift.registration.convex_adam import ConvexAdam, convex_adam
from featlift.registration.features import (
    Pair,
    at_typical_distance,
    on_common_grid,
    principal_features,
    side_by_side,
)
from featlift.registration.field import DisplacementField
from featlift.registration.mind import CHANNELS, mind
from featlift.registration.sampling import resized
from featlift.store import Case
from featlift.timing import timed
from featlift.volumes.grid import Shape, inside, on_grid, resample, target_shape
from featlift.volumes.volume import Affine, Volume, spacing_of

#: What scans are compared by.
Compared = Literal["mind", "model", "both"]

#: Makes the features of a scan, as `featlift.extract` does.
Extract = Callable[[Volume], Case]


@dataclass(frozen=True)
class PairSettings:
    """How two scans are registered.

    Attributes:
        features: ``mind`` of the scans, those of a ``model``, or ``both``.
        spacing: millimetres of the common grid; None takes the shortest of the fixed scan's.
        radius: of MIND's patches.
        dilation: how far apart MIND's patches lie.
        components: principal components of a model's features.
        centred: see `featlift.registration.features.principal_features`.
        convex_adam: of the optimisation.
    """

    features: Compared = "mind"
    spacing: float | None = None
    radius: int = 1
    dilation: int = 2
    components: int = 24
    centred: bool = True
    convex_adam: ConvexAdam = field(default_factory=ConvexAdam)

    def __post_init__(self) -> None:
        if self.features not in get_args(Compared):
            raise OptionError(f"features {self.features!r}: choose one of {', '.join(get_args(Compared))}")
        if self.spacing is not None and not 0 < self.spacing < 1000:
            raise OptionError(f"spacing {self.spacing}: give millimetres")
        if min(self.radius, self.dilation, self.components) < 1:
            raise OptionError("radius, dilation and components: give at least 1")


@dataclass(frozen=True, eq=False)
class Registered:
    """What was found.

    Attributes:
        field: on the voxels of the fixed scan.
        grid: (D, H, W) of the common grid.
        spacing: of the common grid along (d, h, w), in mm.
        metrics: ``sdlogj``, ``folds`` (a share), ``mean_mm`` and ``max_mm`` of the displacement.
        seconds: wall time of ``features`` and ``optimisation``.
    """

    field: DisplacementField
    grid: Shape
    spacing: tuple[float, float, float]
    metrics: dict[str, float]
    seconds: dict[str, float]

    @classmethod
    def of(
        cls, found: DisplacementField, grid: Shape, spacing: tuple[float, float, float], seconds: dict[str, float]
    ) -> Self:
        """A field and what is measured of it."""
        in_voxels, lengths = found.in_voxels, np.linalg.norm(found.vectors, axis=0)
        metrics = {
            "sdlogj": sdlogj(in_voxels),
            "folds": folds(in_voxels),
            "mean_mm": float(lengths.mean()),
            "max_mm": float(lengths.max()),
        }
        return cls(found, grid, spacing, metrics, seconds)


def register(
    fixed: Volume,
    moving: Volume,
    settings: PairSettings | None = None,
    extract: Extract | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Registered:
    """Find where each voxel of the fixed scan lies in the moving one.

    Both come through their affines onto one grid in the space of the fixed scan, whose voxels are cubes as nearly as
    whole voxels fill its field of view. Where the moving scan ends, its outermost voxels are continued.

    Args:
        fixed: a scan ``(D, H, W)`` with an affine.
        moving: a scan of the same or another patient, which overlaps it as it lies: there is no affine stage.
        settings: None for the defaults.
        extract: makes a model's features, such as ``partial(featlift.extract, model=lifted)``.
        device: where the field is optimised.
        progress: told of the iterations.

    Raises:
        VolumeError: an unknown geometry, several channels, voxels that are NaN, or scans that do not overlap.
        OptionError: features of a model are asked for and there is none, or costs that exceed the free memory.
    """
    settings = settings or PairSettings()
    if settings.features != "mind" and extract is None:
        raise OptionError(f"features {settings.features}: give a model that makes them")
    fixed_affine, moving_affine = check_pair(fixed, moving)
    shape = _shape(fixed)
    seconds: dict[str, float] = {}
    with timed(seconds, "features"):
        wanted = settings.spacing or min(
            step for step, size in zip(spacing_of(fixed_affine), shape, strict=True) if size > 1
        )
        image, onto = shrunk(fixed, fixed_affine, wanted, grow=True)
        grid = image.shape[0], image.shape[1], image.shape[2]
        other = on_grid(*shrunk(moving, moving_affine, wanted), grid, onto, order=1, fill_value=None)
        cases = None if settings.features == "mind" or extract is None else (extract(fixed), extract(moving))
        features = _features(image, other, cases, onto, settings, device)
    spacing = spacing_of(onto)
    with timed(seconds, "optimisation"):
        told = steps("registration", progress)
        displacement = convex_adam(*features, spacing, settings.convex_adam, told)
        in_voxels = resized(displacement, shape).cpu().numpy()
    return Registered.of(DisplacementField.of_voxels(in_voxels, fixed_affine), grid, spacing, seconds)


def check_pair(fixed: Volume, moving: Volume) -> tuple[Affine, Affine]:
    """Refuse two scans that cannot be registered, and give their affines.

    Raises:
        VolumeError: see `register`.
    """
    affines = _known(fixed, "fixed"), _known(moving, "moving")
    if not inside(_shape(moving), affines[1], _shape(fixed), affines[0]).any():
        raise VolumeError(
            "the scans do not overlap: no voxel of the fixed one lies in the moving one; align them first, there is no "
            "affine stage"
        )
    return affines


def _known(volume: Volume, name: str) -> Affine:
    """The affine of a scan that can be registered."""
    if volume.affine is None:
        raise VolumeError(f"the {name} scan does not say where it lies (no affine): set its header first")
    if volume.array.ndim != 3:
        raise VolumeError(f"the {name} scan has {len(volume.array)} channels: give one of them")
    if bad := volume.array.size - int(np.isfinite(volume.array).sum()):
        raise VolumeError(f"{bad:,} voxels of the {name} scan are NaN or infinite: replace them first")
    return volume.affine


def _shape(volume: Volume) -> Shape:
    depth, height, width = volume.array.shape
    return depth, height, width


def shrunk(volume: Volume, affine: Affine, spacing: float, grow: bool = False) -> tuple[NDArray[np.float32], Affine]:
    """A scan at a spacing, low-passed where it shrinks, and its affine; axes that are coarser grow only if asked to.

    An axis of one voxel stays one.
    """
    shape = _shape(volume)
    wanted = tuple(
        spacing if size > 1 and (grow or step < spacing) else 0
        for size, step in zip(shape, spacing_of(affine), strict=True)
    )
    values, changed = resample(volume.array[None], affine, target_shape(shape, affine, wanted, ()))
    assert changed is not None
    return values[0], changed


def _features(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    cases: tuple[Case, Case] | None,
    onto: Affine,
    settings: PairSettings,
    device: str | torch.device,
) -> Pair:
    """What two scans on the common grid are compared by: their MIND, the features of their cases, or both."""
    parts: list[Pair] = []
    if settings.features != "model":
        parts.append((mind_of(fixed, settings, device), mind_of(moving, settings, device)))
    if cases is not None:
        depth, height, width = fixed.shape
        parts.append(_model_features(*cases, (depth, height, width), onto, settings, device))
    return side_by_side(parts)


def mind_of(image: NDArray[np.float32], settings: PairSettings, device: str | torch.device) -> torch.Tensor:
    """MIND of a scan on the common grid; of the 4 channels of a slice each counts as 3 of the 12."""
    found = mind(torch.from_numpy(np.ascontiguousarray(image)).to(device), settings.radius, settings.dilation)
    return found if len(found) == CHANNELS else found * (CHANNELS / len(found)) ** 0.5


def _model_features(
    fixed: Case, moving: Case, grid: Shape, onto: Affine, settings: PairSettings, device: str | torch.device
) -> Pair:
    """Features of a network for both scans on the common grid, at MIND's typical distance."""
    cells = principal_features(fixed, moving, settings.components, settings.centred)
    assert fixed.affine is not None
    assert moving.affine is not None
    one, two = (
        on_common_grid(values, affine, grid, onto).to(device)
        for values, affine in zip(cells, (fixed.affine, moving.affine), strict=True)
    )
    return at_typical_distance(one, two)

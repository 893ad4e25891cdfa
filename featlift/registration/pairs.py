"""`register`: from two scans, each in its own space, to the field between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.metrics.fields import folds, sdlogj
from featlift.progress import Progress, steps
from featlift.registration.affine import AffineStage, affine_stage
from featlift.registration.body import Body, body_of, masks_on, of_cells
from featlift.registration.common_grid import shrunk, spacing_within
from featlift.registration.convex_adam import ConvexAdam, convex_adam
from featlift.registration.features import (
    Bodies,
    Pair,
    at_typical_distance,
    on_common_grid,
    principal_features,
    side_by_side,
    within_bodies,
)
from featlift.registration.field import DisplacementField
from featlift.registration.mind import CHANNELS, mind
from featlift.registration.sampling import resized_slices
from featlift.registration.transforms import inverse
from featlift.store import Case
from featlift.timing import timed
from featlift.volumes.grid import Shape, inside, on_grid
from featlift.volumes.volume import Affine, Volume, spacing_of

#: What scans are compared by.
Compared = Literal["mind", "model", "both"]

_SLAB = 16  # slices of a field brought to full size at a time

#: Makes the features of a scan, as `featlift.extract` does.
Extract = Callable[[Volume], Case]


@dataclass(frozen=True)
class PairSettings:
    """How two scans are registered.

    Attributes:
        features: ``mind`` of the scans, those of a ``model``, or ``both``.
        spacing: millimetres of the common grid; None takes the shortest of the fixed scan's, or as much more as
            `memory` asks for.
        radius: of MIND's patches.
        dilation: how far apart MIND's patches lie.
        components: principal components of a model's features.
        centred: see `featlift.registration.features.principal_features`.
        convex_adam: of the optimisation.
        affine: what comes before it, see `featlift.registration.affine.AffineStage`.
        body: which places count, see `featlift.registration.body.Body`.
        memory: bytes that the common grid is made for where `spacing` is None; None for 8 GB, or what is free.
    """

    features: Compared = "mind"
    spacing: float | None = None
    radius: int = 1
    dilation: int = 2
    components: int = 24
    centred: bool = True
    convex_adam: ConvexAdam = field(default_factory=ConvexAdam)
    affine: AffineStage = "none"
    body: Body = "none"
    memory: int | None = None

    @property
    def channels(self) -> int:
        """How many channels of features there are at most."""
        return (self.features != "model") * CHANNELS + (self.features != "mind") * self.components

    @property
    def needs_model(self) -> bool:
        """Whether features of a network are made."""
        return self.features != "mind" or self.affine == "features"

    def __post_init__(self) -> None:
        if self.features not in get_args(Compared):
            raise OptionError(f"features {self.features!r}: choose one of {', '.join(get_args(Compared))}")
        if self.affine not in get_args(AffineStage):
            raise OptionError(f"affine {self.affine!r}: choose one of {', '.join(get_args(AffineStage))}")
        if self.body not in get_args(Body):
            raise OptionError(f"body {self.body!r}: choose one of {', '.join(get_args(Body))}")
        if self.spacing is not None and not 0 < self.spacing < 1000:
            raise OptionError(f"spacing {self.spacing}: give millimetres")
        if min(self.radius, self.dilation, self.components) < 1:
            raise OptionError("radius, dilation and components: give at least 1")


@dataclass(frozen=True, eq=False)
class Registered:
    """What was found.

    Attributes:
        field: on the voxels of the fixed scan, of the affine stage and what came after it together.
        affine: 4x4 of the affine stage alone, places of the fixed scan to those of the moving one, LPS millimetres.
        grid: (D, H, W) of the common grid.
        spacing: of the common grid along (d, h, w), in mm.
        metrics: ``sdlogj``, ``folds`` (a share), ``mean_mm`` and ``max_mm`` of the displacement that comes after the
            affine stage.
        seconds: wall time of ``affine``, ``features``, ``optimisation`` and ``field``, which is brought to full size.
    """

    field: DisplacementField
    affine: Affine
    grid: Shape
    spacing: tuple[float, float, float]
    metrics: dict[str, float]
    seconds: dict[str, float]


def register(
    fixed: Volume,
    moving: Volume,
    settings: PairSettings | None = None,
    extract: Extract | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    masks: tuple[Volume, Volume] | None = None,
    notify: Callable[[str], object] | None = None,
) -> Registered:
    """Find where each voxel of the fixed scan lies in the moving one.

    Both come through their affines onto one grid in the space of the fixed scan, whose voxels are cubes as nearly as
    whole voxels fill its field of view. Where the moving scan ends, its outermost voxels are continued.

    Args:
        fixed: a scan ``(D, H, W)`` with an affine.
        moving: a scan of the same or another patient, which overlaps it as it lies if there is no affine stage.
        settings: None for the defaults.
        extract: makes a model's features, such as ``partial(featlift.extract, model=lifted)``.
        device: where the field is optimised.
        progress: told of the iterations.
        masks: of the bodies in both scans, for `PairSettings.body`.
        notify: told in one line if the common grid is coarser than the fixed scan, for memory.

    Raises:
        VolumeError: an unknown geometry, several channels, voxels that are NaN, or scans that do not overlap.
        OptionError: features of a model are asked for and there is none, or costs that exceed the free memory.
    """
    settings = settings or PairSettings()
    if settings.needs_model and extract is None:
        raise OptionError(f"features {settings.features}, affine {settings.affine}: give a model that makes them")
    if (settings.body == "masks") != (masks is not None):
        raise OptionError("body masks: give a mask of each scan, and none otherwise")
    fixed_affine, moving_affine = check_pair(fixed, moving, settings.affine)
    shape = _shape(fixed)
    seconds: dict[str, float] = {}
    cases = None
    if settings.needs_model and extract is not None:
        with timed(seconds, "features"):
            cases = extract(fixed), extract(moving)
    matrix = np.eye(4)
    if settings.affine != "none":
        with timed(seconds, "affine"):
            matrix = affine_stage(settings.affine, fixed, moving, cases)
    back = inverse(matrix)  # what the stage does is undone by where the moving scan lies from here on
    with timed(seconds, "features"):
        wanted = settings.spacing or spacing_within(
            fixed, moving, settings.channels, settings.memory, torch.device(device), notify
        )
        image, onto = shrunk(fixed, fixed_affine, wanted, grow=True)
        grid = image.shape[0], image.shape[1], image.shape[2]
        other = on_grid(*shrunk(moving, back @ moving_affine, wanted), grid, onto, order=1, fill_value=None)
        bodies = None
        if settings.body == "otsu":
            bodies = body_of(image), body_of(other)
        elif masks is not None:
            lie = masks[0].affine, None if masks[1].affine is None else back @ masks[1].affine
            bodies = masks_on(masks, lie, grid, onto)
        features = _features(image, other, cases, back, onto, bodies, settings, device)
    spacing = spacing_of(onto)
    with timed(seconds, "optimisation"):
        told = steps("registration", progress)
        displacement = convex_adam(*features, spacing, settings.convex_adam, told)
        del features
    with timed(seconds, "field"):
        in_voxels = np.empty((3, *shape), np.float32)
        for start in range(0, shape[0], _SLAB):
            slices = range(start, min(start + _SLAB, shape[0]))
            in_voxels[:, start : slices.stop] = resized_slices(displacement, shape, slices).cpu()
        metrics = {"sdlogj": sdlogj(in_voxels), "folds": folds(in_voxels), **_lengths(in_voxels, fixed_affine)}
        then = None if settings.affine == "none" else matrix
        found = DisplacementField.of_voxels(in_voxels, fixed_affine, then)
    return Registered(found, matrix, grid, spacing, metrics, seconds)


def _lengths(in_voxels: NDArray[np.float32], affine: Affine) -> dict[str, float]:
    """Mean and largest length of displacements, in mm."""
    to_patient = affine[:3, :3]
    each = [np.linalg.norm(to_patient @ slice_.reshape(3, -1), axis=0) for slice_ in in_voxels.swapaxes(0, 1)]
    return {
        "mean_mm": float(np.mean([lengths.mean() for lengths in each])),
        "max_mm": float(max(lengths.max() for lengths in each)),
    }


def check_pair(fixed: Volume, moving: Volume, affine: AffineStage = "none") -> tuple[Affine, Affine]:
    """Refuse two scans that cannot be registered, and give their affines.

    Args:
        fixed: the scan that stays.
        moving: the other one.
        affine: the stage, before which they need not overlap.

    Raises:
        VolumeError: see `register`.
    """
    affines = _known(fixed, "fixed"), _known(moving, "moving")
    if affine == "none" and not inside(_shape(moving), affines[1], _shape(fixed), affines[0]).any():
        raise VolumeError(
            "the scans do not overlap: no voxel of the fixed one lies in the moving one; bring them together by "
            "--affine intensity or moments"
        )
    return affines


def _known(volume: Volume, name: str) -> Affine:
    """The affine of a scan that can be registered."""
    if volume.affine is None:
        raise VolumeError(f"the {name} scan does not say where it lies (no affine): give --grid voxels")
    if volume.array.ndim != 3:
        raise VolumeError(f"the {name} scan has {len(volume.array)} channels: give one of them")
    if bad := volume.array.size - int(np.isfinite(volume.array).sum()):
        raise VolumeError(f"{bad:,} voxels of the {name} scan are NaN or infinite: replace them first")
    return volume.affine


def _shape(volume: Volume) -> Shape:
    depth, height, width = volume.array.shape
    return depth, height, width


def _features(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    cases: tuple[Case, Case] | None,
    back: Affine,
    onto: Affine,
    bodies: Bodies | None,
    settings: PairSettings,
    device: str | torch.device,
) -> Pair:
    """What two scans on the common grid are compared by: their MIND, the features of their cases, or both."""
    parts: list[Pair] = []
    if settings.features != "model":
        parts.append((_mind_of(fixed, settings, device), _mind_of(moving, settings, device)))
    if cases is not None and settings.features != "mind":
        depth, height, width = fixed.shape
        parts.append(_model_features(*cases, back, (depth, height, width), onto, bodies, settings, device))
    return within_bodies(side_by_side(parts), bodies)


def _mind_of(image: NDArray[np.float32], settings: PairSettings, device: str | torch.device) -> torch.Tensor:
    """MIND of a scan on the common grid; of the 4 channels of a slice each counts as 3 of the 12."""
    found = mind(torch.from_numpy(np.ascontiguousarray(image)).to(device), settings.radius, settings.dilation)
    return found if len(found) == CHANNELS else found * (CHANNELS / len(found)) ** 0.5


def _model_features(
    fixed: Case,
    moving: Case,
    back: Affine,
    grid: Shape,
    onto: Affine,
    bodies: Bodies | None,
    settings: PairSettings,
    device: str | torch.device,
) -> Pair:
    """Features of a network for both scans on the common grid, at MIND's typical distance."""
    assert fixed.affine is not None
    assert moving.affine is not None
    affines = fixed.affine, back @ moving.affine
    inside = None
    if bodies is not None:
        one, other = (
            of_cells(body, onto, case.valid_cells, affine)
            for body, case, affine in zip(bodies, (fixed, moving), affines, strict=True)
        )
        inside = one, other
    cells = principal_features(fixed, moving, settings.components, settings.centred, inside)
    first, second = (
        on_common_grid(values, affine, grid, onto).to(device) for values, affine in zip(cells, affines, strict=True)
    )
    return at_typical_distance(first, second, bodies)

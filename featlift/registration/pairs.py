"""`register`: from two scans, each in its own space, to the field between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.metrics.fields import regularity
from featlift.progress import Progress, steps
from featlift.registration.affine import AffineStage, affine_stage
from featlift.registration.body import body_of, masks_on
from featlift.registration.common_grid import shrunk, spacing_within
from featlift.registration.comparing import compared
from featlift.registration.convex_adam import convex_adam
from featlift.registration.field import DisplacementField
from featlift.registration.sampling import resized_slices
from featlift.registration.settings import PairSettings
from featlift.registration.transforms import inverse
from featlift.store import Case
from featlift.store.features import layer_of
from featlift.timing import timed
from featlift.volumes.grid import Shape, inside, on_grid
from featlift.volumes.volume import Affine, Volume, spacing_of

_SLAB = 16  # slices of a field brought to full size at a time

#: Makes the features of a scan, as `featlift.extract` does.
Extract = Callable[[Volume], Case]


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
        OptionError: features of a model are asked for and there is none, or not of this layer; costs that exceed the
            free memory.
    """
    settings = settings or PairSettings()
    if settings.needs_model and extract is None:
        raise OptionError(f"features {settings.features}, affine {settings.affine}: give a model that makes them")
    if (settings.body == "masks") != (masks is not None):
        raise OptionError("body masks: give a mask of each scan, and none otherwise")
    fixed_affine, moving_affine = check_pair(fixed, moving, settings.affine)
    shape = _shape(fixed)
    seconds: dict[str, float] = {}
    layers = None
    if settings.needs_model and extract is not None:
        with timed(seconds, "features"):
            layers = layer_of(extract(fixed), settings.layer), layer_of(extract(moving), settings.layer)
    matrix = np.eye(4)
    if settings.affine != "none":
        with timed(seconds, "affine"):
            matrix = affine_stage(settings.affine, fixed, moving, layers)
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
        features = compared(image, other, layers, back, onto, bodies, settings, device)
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
        metrics = metrics_of(in_voxels, fixed_affine)
        then = None if settings.affine == "none" else matrix
        found = DisplacementField.of_voxels(in_voxels, fixed_affine, then)
    return Registered(found, matrix, grid, spacing, metrics, seconds)


def metrics_of(in_voxels: NDArray[np.float32], affine: Affine) -> dict[str, float]:
    """The measures of `Registered` of a field.

    Args:
        in_voxels: displacements ``(3, D, H, W)`` along (d, h, w).
        affine: of the voxels.
    """
    to_patient = affine[:3, :3]
    each = [np.linalg.norm(to_patient @ slice_.reshape(3, -1), axis=0) for slice_ in in_voxels.swapaxes(0, 1)]
    sd, folds = regularity(in_voxels)
    return {
        "sdlogj": sd,
        "folds": folds,
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

"""The affine stage: a moving scan brought roughly onto a fixed one, by SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.registration.body import body_of
from featlift.registration.features import principal_features
from featlift.registration.transforms import matrix_of, simpleitk
from featlift.store.case import CaseLayer
from featlift.volumes.grid import Shape, resample, target_shape
from featlift.volumes.volume import Affine, Volume, spacing_of

#: What comes before the field. ``moments``: the centres of both bodies meet. ``intensity``: an affine map by the mutual
#: information of the scans. ``features``: one by the correlation of the first principal component of their features.
AffineStage = Literal["none", "moments", "intensity", "features"]

#: What SimpleITK compares images by.
Likeness = Literal["mutual information", "correlation"]

_LONGEST = 96  # voxels along an axis: an affine map needs no finer ones
_SHRUNK = (4, 2, 1)  # one level after the other
_LEAST = 8  # voxels along an axis of a level
_ITERATIONS = 200
_SEED = 20


def affine_stage(
    stage: AffineStage, fixed: Volume, moving: Volume, layers: tuple[CaseLayer, CaseLayer] | None = None
) -> Affine:
    """The map of a stage.

    Args:
        stage: which.
        fixed: a scan ``(D, H, W)`` with an affine.
        moving: the other one; they need not overlap.
        layers: their features, for ``features``.

    Returns:
        4x4, places of the fixed scan to those of the moving one, LPS millimetres.

    Raises:
        VolumeError, OptionError: see `by_likeness`; there are no features.
    """
    if stage == "none":
        return np.eye(4)
    centres = by_centres(fixed, moving)
    if stage == "moments":
        return centres
    if stage == "intensity":
        return by_likeness(fixed, moving, "mutual information", [np.eye(4), centres])
    if layers is None:
        raise OptionError("affine features: give a model that makes them")
    components = principal_features(*layers, 1)
    first = [Volume(values[0], layer.affine) for values, layer in zip(components, layers, strict=True)]
    return by_likeness(first[0], first[1], "correlation", [np.eye(4), centres])


def by_centres(fixed: Volume, moving: Volume) -> Affine:
    """The shift that brings the centre of one body onto that of the other.

    Axes of inertia are left alone: those of a body differ little in length and say nothing of its direction then.

    Args:
        fixed: a scan with an affine.
        moving: a scan with an affine.

    Returns:
        4x4, places of the fixed scan to those of the moving one, LPS millimetres.
    """
    shift = np.eye(4)
    shift[:3, 3] = _centre(moving) - _centre(fixed)
    return shift


def by_likeness(fixed: Volume, moving: Volume, likeness: Likeness, starts: Sequence[Affine]) -> Affine:
    """The affine map under which two images are most alike: a rigid one first, so that it may turn by 30 degrees.

    The same on every run.

    Args:
        fixed: an image with an affine; one of one slice is aligned within its plane.
        moving: the other one.
        likeness: what is maximised.
        starts: maps to begin with; the one under which they are most alike is taken.

    Returns:
        4x4, places of the fixed scan to those of the moving one, LPS millimetres.

    Raises:
        VolumeError: the images overlap under no start, or are lost on the way; one has one slice and the other several.
        OptionError: SimpleITK is not installed.
    """
    axes = _axes(fixed)
    if axes != _axes(moving):
        raise OptionError("an affine stage takes two volumes or two slices, not one of each")
    ends = [_Frame(volume, axes) for volume in (fixed, moving)]
    method = _method(likeness, ends)
    with _one_thread():
        found = [(value, start) for start in starts if (value := _value(method, ends, start)) is not None]
        if not found:
            raise VolumeError(
                "the affine stage finds no overlap of the scans, neither as they lie nor centre on centre"
            )
        start = min(found, key=lambda each: each[0])[1]
        rigid, map_ = _rigid_map(ends[0]), _affine_map(ends[0])
        try:
            _run(method, ends, start, rigid)
            map_.SetMatrix(rigid.GetMatrix())
            map_.SetTranslation(rigid.GetTranslation())
            _run(method, ends, start, map_)
        except RuntimeError as error:
            raise VolumeError("the affine stage lost the overlap of the scans: align them first") from error
    return start @ ends[0].to_patient @ matrix_of(map_) @ np.linalg.inv(ends[0].to_patient)


class _Frame:
    """An image of SimpleITK in millimetres along its own axes, so that grids may be flipped, sheared or flat.

    Attributes:
        image: of SimpleITK, its origin 0 and its axes (w, h, d), or those of them that have several voxels.
        to_patient: 4x4, its places (w, h, d) to LPS millimetres.
    """

    def __init__(self, volume: Volume, axes: tuple[int, ...]) -> None:
        values, affine = _coarse(volume)
        d, h, w = spacing_of(affine)
        self.image = simpleitk().GetImageFromArray(values.reshape([values.shape[axis] for axis in axes]))
        self.image.SetSpacing([(d, h, w)[axis] for axis in reversed(axes)])
        last = [axis for axis in range(3) if axis not in axes]  # of a slice, the axis across it comes last
        order = [*reversed(axes), *last]
        self.to_patient = affine[:, [*order, 3]] @ np.diag([1 / (d, h, w)[axis] for axis in order] + [1.0])


@contextmanager
def _one_thread() -> Iterator[None]:
    """SimpleITK on one thread: sums of several differ between runs. A method's own number does not reach its metric."""
    process = simpleitk().ProcessObject
    before = process.GetGlobalDefaultNumberOfThreads()
    process.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        process.SetGlobalDefaultNumberOfThreads(before)


def _axes(volume: Volume) -> tuple[int, ...]:
    return tuple(axis for axis, size in enumerate(volume.array.shape) if size > 1)


def _coarse(volume: Volume) -> tuple[NDArray[np.float32], Affine]:
    """A scan with at most `_LONGEST` voxels along its longest edge, and as coarse along the others; its affine."""
    assert volume.affine is not None
    depth, height, width = volume.array.shape
    shape: Shape = (depth, height, width)
    steps = spacing_of(volume.affine)
    wanted = max(size * step for size, step in zip(shape, steps, strict=True)) / _LONGEST
    spacing = tuple(wanted if step < wanted and size > 1 else 0 for size, step in zip(shape, steps, strict=True))
    values, affine = resample(volume.array[None], volume.affine, target_shape(shape, volume.affine, spacing, ()))
    assert affine is not None
    return values[0], affine


def _centre(volume: Volume) -> NDArray[np.float64]:
    """The centre of the body, LPS millimetres."""
    values, affine = _coarse(volume)
    index = np.argwhere(body_of(values)).mean(axis=0)
    centre: NDArray[np.float64] = affine[:3, :3] @ index + affine[:3, 3]
    return centre


def _method(likeness: Likeness, ends: Sequence[_Frame]) -> Any:
    """How SimpleITK registers two images."""
    size = min(min(each.image.GetSize()) for each in ends)
    voxel = max(max(each.image.GetSpacing()) for each in ends)
    sitk = simpleitk()
    method = sitk.ImageRegistrationMethod()
    if likeness == "correlation":
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    shrunk = [factor for factor in _SHRUNK if size // factor >= _LEAST] or [1]
    method.SetMetricSamplingPercentagePerLevel([min(1.0, 0.2 * factor) for factor in shrunk], _SEED)
    method.SetShrinkFactorsPerLevel(shrunk)
    method.SetSmoothingSigmasPerLevel([factor / 2 for factor in shrunk])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        2 * voxel, 1e-3 * voxel, _ITERATIONS, gradientMagnitudeTolerance=1e-8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _affine_map(fixed: _Frame) -> Any:
    """No map at all, to begin with, whose parameters turn and stretch around the middle of the fixed image."""
    size = fixed.image.GetSize()
    map_ = simpleitk().AffineTransform(len(size))
    map_.SetCenter(fixed.image.TransformContinuousIndexToPhysicalPoint([(each - 1) / 2 for each in size]))
    return map_


def _rigid_map(fixed: _Frame) -> Any:
    """`_affine_map` of turns and shifts alone."""
    sitk = simpleitk()
    map_ = sitk.Euler2DTransform() if fixed.image.GetDimension() == 2 else sitk.Euler3DTransform()
    map_.SetCenter(_affine_map(fixed).GetCenter())
    return map_


def _begin(method: Any, ends: Sequence[_Frame], start: Affine, map_: Any) -> None:
    """Let a method begin at a map of the patient."""
    fixed, moving = ends
    dimension = fixed.image.GetDimension()
    between = np.linalg.inv(moving.to_patient) @ start @ fixed.to_patient
    initial = simpleitk().AffineTransform(dimension)
    initial.SetMatrix(between[:dimension, :dimension].ravel().tolist())
    initial.SetTranslation(between[:dimension, 3].tolist())
    method.SetMovingInitialTransform(initial)
    method.SetInitialTransform(map_, inPlace=True)


def _run(method: Any, ends: Sequence[_Frame], start: Affine, map_: Any) -> None:
    """Find the best parameters of a map; RuntimeError where the images come apart."""
    _begin(method, ends, start, map_)
    method.Execute(ends[0].image, ends[1].image)


def _value(method: Any, ends: Sequence[_Frame], start: Affine) -> float | None:
    """How unlike the images are under a map; None where they hardly overlap."""
    _begin(method, ends, start, _affine_map(ends[0]))
    try:
        return float(method.MetricEvaluate(ends[0].image, ends[1].image))
    except RuntimeError:
        return None

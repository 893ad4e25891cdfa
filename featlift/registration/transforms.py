"""Transforms one after the other, and an image warped by all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import write_atomically
from featlift.errors import InputError, OptionError, VolumeError
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine, Volume

#: Suffixes of files that SimpleITK reads as transforms.
TRANSFORMS = (".tfm", ".mat", ".txt", ".h5", ".hdf5", ".xfm")


class Transform(Protocol):
    """Leads places of a fixed scan to places of a moving one."""

    def moved(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where places ``(3, N)`` in LPS millimetres are led to, ``(3, N)``."""


@dataclass(frozen=True, eq=False)
class LinearTransform:
    """An affine map of the patient.

    Attributes:
        matrix: 4x4, places (x, y, z, 1) of a fixed scan to those of a moving one, LPS millimetres.
    """

    matrix: Affine

    def moved(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where places ``(3, N)`` in LPS millimetres are led to, ``(3, N)``."""
        return self.matrix[:3, :3] @ points + self.matrix[:3, 3:]

    def write(self, path: Path) -> None:
        """Write an ITK transform file, .tfm.

        Raises:
            OptionError: SimpleITK is not installed.
            OutputError: it cannot be written.
        """
        sitk = simpleitk()
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(self.matrix[:3, :3].ravel().tolist())
        transform.SetTranslation(self.matrix[:3, 3].tolist())
        write_atomically(path, lambda draft: sitk.WriteTransform(transform, str(draft)))

    @classmethod
    def read(cls, path: Path) -> LinearTransform:
        """Read a linear transform of ITK, ANTs or elastix.

        Raises:
            InputError: no such file.
            VolumeError: it is none, or not linear.
            OptionError: SimpleITK is not installed.
        """
        sitk = simpleitk()
        if not path.is_file():
            raise InputError(f"{path.name}: no such file")
        try:
            transform = sitk.ReadTransform(str(path))
        except RuntimeError as error:
            raise VolumeError(f"{path.name}: not a transform that SimpleITK reads") from error
        if not transform.IsLinear() or transform.GetDimension() != 3:
            raise VolumeError(
                f"{path.name}: not a linear transform in three dimensions; make a displacement field of it "
                "(SimpleITK.TransformToDisplacementField)"
            )
        return cls(matrix_of(transform))


def warp(
    chain: Sequence[Transform],
    image: Volume,
    shape: Shape,
    onto: Affine,
    order: int = 1,
    fill_value: float = 0,
) -> NDArray[np.float32]:
    """The moving scan as it lies on the fixed one, each value interpolated once.

    Args:
        chain: transforms as in ITK's CompositeTransform: places of the fixed scan go through the last one first. The
            moving scan is thus brought onto the fixed one by the first, then by the second, and so on.
        image: the moving scan ``(D, H, W)``, or labels of it.
        shape: (D, H, W) of the grid to fill.
        onto: affine of that grid.
        order: 1 interpolates linearly, 0 takes the nearest voxel, for labels.
        fill_value: where the scan does not reach.

    Returns:
        ``(D, H, W)``.

    Raises:
        VolumeError: the geometry of the scan is unknown, or nothing of it comes to lie on the grid.
    """
    from scipy.ndimage import map_coordinates

    if image.affine is None or image.array.ndim != 3:
        raise VolumeError("the image to warp has no geometry, or more than one value a voxel")
    warped = np.empty(shape, np.float32)
    reached = False
    to_image = LinearTransform(inverse(image.affine))
    for number, slice_ in enumerate(warped):  # the places of a whole CT would take gigabytes
        places = places_of_slice(number, shape, onto)
        for transform in reversed(chain):
            places = transform.moved(places)
        at = to_image.moved(places)
        known = within(at, image.array.shape)
        values = map_coordinates(image.array, at, np.float32, order=order, mode="nearest")
        slice_[:] = np.where(known, values, np.float32(fill_value)).reshape(slice_.shape)
        reached = reached or bool(known.any())
    if not reached:
        raise VolumeError("nothing of the image comes to lie on the grid: is it the moving scan of this field?")
    return warped


def places_of_slice(number: int, shape: Shape, affine: Affine) -> NDArray[np.float64]:
    """Where the voxels of a slice lie, ``(3, H * W)`` in LPS millimetres."""
    h, w = np.indices(shape[1:], np.float64).reshape(2, -1)
    places: NDArray[np.float64] = affine[:3, 0:1] * number + affine[:3, 1:2] * h + affine[:3, 2:3] * w + affine[:3, 3:]
    return places


def inverse(affine: Affine) -> Affine:
    """The affine map back."""
    return np.linalg.inv(affine).astype(np.float64)


def within(at: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which places ``(3, N)`` lie in a voxel, that reaches half a step beyond its centre."""
    size = np.array(shape)[:, None]
    found: NDArray[np.bool_] = np.logical_and.reduce((at >= -0.5) & (at < size - 0.5))
    return found


def matrix_of(transform: Any) -> Affine:
    """4x4 of a linear transform of SimpleITK; one of two dimensions leaves the third alone."""
    dimension = transform.GetDimension()
    points = np.vstack([np.zeros(dimension), np.eye(dimension)])
    origin, *ends = (np.array(transform.TransformPoint(point)) for point in points)
    matrix = np.eye(4)
    matrix[:dimension, :dimension] = np.stack([end - origin for end in ends], axis=1)
    matrix[:dimension, 3] = origin
    return matrix


def simpleitk() -> Any:
    """SimpleITK, which is an extra.

    Raises:
        OptionError: it is not installed.
    """
    try:
        import SimpleITK as sitk
    except ImportError as error:
        raise OptionError("affine transforms need SimpleITK: pip install 'featlift[register]'") from error
    return sitk

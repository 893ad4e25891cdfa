"""A displacement field in the patient: kept, read again, and applied to scans and labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import write_atomically
from featlift.errors import VolumeError
from featlift.volumes.grid import Shape, inside
from featlift.volumes.nifti import write_nifti
from featlift.volumes.reading import read
from featlift.volumes.volume import Affine, Volume


@dataclass(frozen=True, eq=False)
class DisplacementField:
    """Where each place of a fixed scan is found in a moving one.

    Attributes:
        vectors: ``(3, D, H, W)`` float32: the step (x, y, z) in LPS millimetres from a voxel's place to its partner's.
        affine: maps indices ``(d, h, w, 1)`` to LPS millimetres.
    """

    vectors: NDArray[np.float32]
    affine: Affine

    @classmethod
    def of_voxels(cls, displacement: NDArray[Any], affine: Affine) -> Self:
        """The field of displacements ``(3, D, H, W)`` in voxels along (d, h, w)."""
        return cls(np.tensordot(affine[:3, :3], displacement, axes=1).astype(np.float32), affine)

    @property
    def in_voxels(self) -> NDArray[np.float64]:
        """``(3, D, H, W)`` in voxels along (d, h, w)."""
        return np.tensordot(np.linalg.inv(self.affine[:3, :3]), self.vectors, axes=1)

    @property
    def shape(self) -> Shape:
        """(D, H, W)."""
        depth, height, width = self.vectors.shape[1:]
        return depth, height, width

    def write(self, path: Path) -> None:
        """Write a vector NIfTI, which SimpleITK reads as a displacement field.

        Args:
            path: ends in .nii or .nii.gz.

        Raises:
            OutputError: it cannot be written.
        """
        vectors = partial(write_nifti, array=self.vectors[:, None], affine=self.affine, intent="vector")
        write_atomically(path, vectors)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what `write` wrote, or a field of another program in LPS millimetres.

        Raises:
            InputError: no such file.
            VolumeError: it does not hold three values a voxel, all of them finite, or does not say where it lies.
        """
        name = Path(path).name
        parts = []
        for axis in range(3):
            try:
                parts.append(read(path, frame=axis))
            except VolumeError as error:
                raise VolumeError(f"{name}: no displacement field of three values a voxel ({error})") from error
        vectors = np.stack([part.array for part in parts])
        if parts[0].affine is None:
            raise VolumeError(f"{name}: it does not say where it lies: its sform and qform are unknown")
        if not np.isfinite(vectors).all():
            raise VolumeError(f"{name}: some of its displacements are NaN or infinite")
        return cls(vectors, parts[0].affine)

    def warp(
        self, image: Volume, shape: Shape, onto: Affine, order: int = 1, fill_value: float = 0
    ) -> NDArray[np.float32]:
        """The moving scan as it lies on the fixed one, each value interpolated once.

        Beyond the field nothing is displaced, as in ITK.

        Args:
            image: the moving scan ``(D, H, W)``, or labels of it.
            shape: (D, H, W) of the grid to fill.
            onto: affine of that grid.
            order: 1 interpolates linearly, 0 takes the nearest voxel, for labels.
            fill_value: where the scan does not reach.

        Returns:
            ``(D, H, W)``.

        Raises:
            VolumeError: the geometry of the scan is unknown, the grid lies outside the field, or nothing of the scan
                comes to lie on it.
        """
        from scipy.ndimage import map_coordinates

        if image.affine is None or image.array.ndim != 3:
            raise VolumeError("the image to warp has no geometry, or more than one value a voxel")
        if not inside(self.shape, self.affine, shape, onto).any():
            raise VolumeError("the field lies elsewhere than the grid it is applied to: is it of another fixed scan?")
        warped = np.empty(shape, np.float32)
        reached = False
        to_field, to_image = np.linalg.inv(self.affine), np.linalg.inv(image.affine)
        for number, slice_ in enumerate(warped):  # the places of a whole CT would take gigabytes
            places = onto @ _indices(number, shape)
            at, known = _within(to_field @ places, self.shape)
            for axis, values in enumerate(self.vectors):
                places[axis] += known * map_coordinates(values, at, np.float64, order=1, mode="nearest")
            at, known = _within(to_image @ places, image.array.shape)
            values = map_coordinates(image.array, at, np.float32, order=order, mode="nearest")
            slice_[:] = np.where(known, values, np.float32(fill_value)).reshape(slice_.shape)
            reached = reached or bool(known.any())
        if not reached:
            raise VolumeError("nothing of the image comes to lie on the grid: is it the moving scan of this field?")
        return warped


def _indices(slice_: int, shape: Shape) -> NDArray[np.float64]:
    """``(d, h, w, 1)`` of every voxel of a slice, ``(4, H * W)``."""
    h, w = np.indices(shape[1:], np.float64).reshape(2, -1)
    return np.stack([np.full_like(h, slice_), h, w, np.ones_like(h)])


def _within(at: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The places ``(3, N)`` among voxels that reach half a step beyond their centres, and which are in one."""
    size = np.array(shape)[:, None]
    known: NDArray[np.bool_] = np.logical_and.reduce((at[:3] >= -0.5) & (at[:3] < size - 0.5))
    return at[:3], known

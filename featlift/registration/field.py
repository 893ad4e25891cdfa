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
from featlift.registration.slices import flat_nifti
from featlift.registration.transforms import LinearTransform, inverse, places_of_slice, warp, within
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
    def of_voxels(cls, displacement: NDArray[Any], affine: Affine, then: Affine | None = None) -> Self:
        """The field of displacements ``(3, D, H, W)`` in voxels along (d, h, w).

        Args:
            displacement: its array.
            affine: of the grid.
            then: 4x4, an affine map of the patient that places go through afterwards; the field is of both.
        """
        _, depth, height, width = displacement.shape
        shape = depth, height, width
        vectors = np.empty(displacement.shape, np.float32)
        to_patient, linear = affine[:3, :3], LinearTransform(np.eye(4) if then is None else then)
        for number in range(depth):  # float64 of a whole CT would take gigabytes
            steps = to_patient @ displacement[:, number].reshape(3, -1)
            if then is not None:
                places = places_of_slice(number, shape, affine)
                steps = linear.moved(places + steps) - places
            vectors[:, number] = steps.reshape(3, height, width)
        return cls(vectors, affine)

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
        flat = flat_nifti(Path(path))
        if flat is not None and flat[1] is not None and len(flat[0]) == 3 and np.isfinite(flat[0]).all():
            return cls(flat[0].astype(np.float32), flat[1])
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
        self.check_grid(shape, onto)
        return warp([self], image, shape, onto, order, fill_value)

    def check_grid(self, shape: Shape, onto: Affine) -> None:
        """Refuse a grid of which nothing lies in the field; raises VolumeError."""
        if not inside(self.shape, self.affine, shape, onto).any():
            raise VolumeError("the field lies elsewhere than the grid it is applied to: is it of another fixed scan?")

    def moved(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where places ``(3, N)`` in LPS millimetres are led to, ``(3, N)``. Beyond the field nothing moves."""
        from scipy.ndimage import map_coordinates

        at = LinearTransform(inverse(self.affine)).moved(points)
        steps = [map_coordinates(values, at, np.float64, order=1, mode="nearest") for values in self.vectors]
        there: NDArray[np.float64] = points + within(at, self.shape) * np.stack(steps)
        return there

"""One layer of a volume of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError, StoreError
from featlift.store.basis import Basis, not_reduced
from featlift.store.labelled import labelled
from featlift.store.layout import METADATA, SAVED, not_kept
from featlift.store.metadata import Grid, MetadataError, RecordedVolume
from featlift.store.quantised import Dequantised
from featlift.store.recorded import RecordedFiles, StoredArray
from featlift.store.uncentred import Uncentred
from featlift.volumes.nifti import nifti_image
from featlift.volumes.reading import read
from featlift.volumes.volume import Affine, Volume

if TYPE_CHECKING:
    import xarray
    from nibabel import Nifti1Image

#: Axes of each array.
_DIMENSIONS = {"scan": (3, 4), "dense": (4,), "tokens": (3,), "slice_mean": (2,), "embedding": (1,)}


class CaseLayer:
    """Features of one layer of one volume. Nothing is read before an array is indexed.

    Asking for an array that the store does not keep, or that is damaged, is a `StoreError`.

    Args:
        files: of the volume.
        volume: what is recorded of it.
        prefix: of the layer's arrays in it.
        basis: gives that of its store; None for a volume without a store.
    """

    def __init__(
        self,
        files: RecordedFiles,
        volume: RecordedVolume,
        prefix: str = "",
        basis: Callable[[], Basis] | None = None,
    ) -> None:
        self._files = files
        self._volume = volume
        self._prefix = prefix
        self._basis = basis

    @property
    def saved(self) -> tuple[str, ...]:
        """What the store keeps of each volume: of ``scan``, ``dense``, ``tokens``, ``slice_mean``, ``embedding``."""
        return self._volume.saved

    @property
    def dense(self) -> StoredArray | Dequantised:
        """Dense features ``(C, d, h, w)``, always floats; index it to read: ``case.dense[:, 10]``."""
        return self._floats("dense", axis=0)

    @property
    def uncentred(self) -> Uncentred:
        """`dense` of ``--reduce pca:K`` with the mean given back, ``(K + 1, d, h, w)`` float32; index it to read.

        Its products, lengths and cosines are those of the features that the K components and the mean reconstruct.

        Raises:
            StoreError: the features were not reduced by principal components, or the store's basis is damaged.
        """
        dense = self.dense
        if self._basis is None:
            raise not_reduced("this case")
        return Uncentred(dense, self._basis().projections[int(self.grid["layer"])])

    @property
    def tokens(self) -> StoredArray | Dequantised | None:
        """Global tokens ``(d, g, C)``, or None for a backbone without any."""
        if "tokens" in self.saved and f"{self._prefix}tokens/{METADATA}" not in self._files.files:
            return None
        return self._floats("tokens", axis=2)

    @property
    def slice_mean(self) -> StoredArray:
        """Mean of the patch tokens of each slice, ``(d, C)``, padding excluded."""
        return self._array("slice_mean")

    @property
    def grid(self) -> dict[str, Any]:
        """What is recorded of the grid of `dense`, kept or not: layer, stride, offset, valid cells, affine, ..."""
        return self._grid.attributes

    @property
    def stride(self) -> tuple[int, int, int]:
        """Voxels of the scan from one cell to the next along d, h and w."""
        return self._grid.stride

    @property
    def offset(self) -> tuple[float, float, float]:
        """(d, h, w) in the scan of the centre of the first cell."""
        return self._grid.offset

    @property
    def valid_cells(self) -> tuple[int, int, int]:
        """(d, h, w) of the dense cells that are scan; those beyond are padding."""
        return self._grid.valid

    @property
    def affine(self) -> Affine | None:
        """Maps indices ``(d, h, w, 1)`` of `dense` to LPS millimetres; None where the scan's geometry is unknown."""
        return self._grid.affine

    def sample(self, points: ArrayLike, order: int = 1, ras: bool = False) -> NDArray[np.float32]:
        """Features at points in the patient.

        Args:
            points: ``(N, 3)``, LPS millimetres.
            ras: they are in RAS, as nibabel, FreeSurfer and 3D Slicer have them: x and y have the other sign.
            order: 0 takes the nearest cell, 1 interpolates linearly. Beyond the outermost cells theirs are repeated.

        Returns:
            ``(N, C)``.

        Raises:
            StoreError: the scan's geometry is unknown.
            OptionError: the points are not (N, 3) finite numbers.
        """
        from scipy.ndimage import map_coordinates

        if self.affine is None:
            raise StoreError("this case has no geometry, so points in millimetres have no place in it")
        positions = np.asarray(points, dtype=np.float64)
        if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions) or not np.isfinite(positions).all():
            raise OptionError(f"points of shape {positions.shape}: give (N, 3) finite millimetres, one row a point")
        if ras:
            positions = positions * [-1, -1, 1]
        homogeneous = np.column_stack([positions, np.ones(len(positions))])
        indices = np.linalg.solve(self.affine, homogeneous.T)[:3]
        lows = np.clip(np.floor(indices.min(axis=1)).astype(int), 0, np.array(self.dense.shape[1:]) - 1)
        highs = np.clip(np.ceil(indices.max(axis=1)).astype(int) + 1, lows + 1, self.dense.shape[1:])
        box = tuple(slice(int(low), int(high)) for low, high in zip(lows, highs, strict=True))
        dense = np.asarray(self.dense[(slice(None), *box)], dtype=np.float32)
        local = indices - lows[:, None]
        return np.stack([map_coordinates(channel, local, order=order, mode="nearest") for channel in dense], axis=1)

    def resample_like(
        self, image: Volume | str | Path, order: int = 1, channels: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Features at the voxels of an image, such as a mask or another scan of the patient.

        Args:
            image: a volume, or the path of one.
            order: 0 takes the nearest cell, 1 interpolates linearly. Beyond the outermost cells theirs are repeated.
            channels: which of the C channels; all of them on a full-size scan take C times its memory.

        Returns:
            ``(C, D, H, W)``.

        Raises:
            StoreError: the case's or the image's geometry is unknown.
        """
        from scipy.ndimage import affine_transform

        volume = image if isinstance(image, Volume) else read(image)
        if self.affine is None or volume.affine is None:
            raise StoreError("the case or the image has no geometry, so they do not meet: index case.dense instead")
        to_cells = np.linalg.solve(self.affine, volume.affine)
        dense = np.asarray(self.dense[channels], dtype=np.float32)
        features = np.empty((len(dense), *volume.array.shape[-3:]), np.float32)
        for channel, values in zip(dense, features, strict=True):
            affine_transform(
                channel, to_cells[:3, :3], to_cells[:3, 3], values.shape, values, order=order, mode="nearest"
            )
        return features

    def to_xarray(self) -> xarray.DataArray:
        """The dense features with named axes ``(feature, z, y, x)``, padded cells cut off.

        z, y and x are d, h and w, as the store's files call them. Their coordinates are the millimetres of the cells'
        centres along the axes: LPS itself where the scan lies straight in the patient. However it lies, oblique or
        sheared, ``directions_lps @ (z, y, x)`` is the point in LPS, where the attribute ``directions_lps`` has the
        axes' directions as columns; ``affine_lps_mm`` maps indices ``(d, h, w, 1)``. Without a known geometry they
        count voxels of the scan.

        Raises:
            OptionError: xarray is not installed.
            StoreError: dense features are not kept, or damaged.
        """
        about = {"case": self._volume.id, "layer": int(self.grid["layer"])}
        return labelled("features", self.cells(), self.affine, self.stride, self.offset, about)

    def to_nifti(self, path: str | Path | None = None, channels: Sequence[int] | None = None) -> Nifti1Image:
        """The dense features as a NIfTI image on the grid of the cells, padded ones cut off.

        `featlift export` writes whole stores, in colours and on the grid of the scan.

        Args:
            path: of a file to write too; ends in .nii or .nii.gz.
            channels: which of the C channels; None takes all.

        Returns:
            ``(w, h, d, C)`` float32, with an affine to RAS millimetres, as nibabel has them.

        Raises:
            OptionError: no such channel, or a path that is no NIfTI's.
            StoreError: dense features are not kept, or damaged.
            OutputError: the file cannot be written.
        """
        if path is not None and not str(path).endswith((".nii", ".nii.gz")):
            raise OptionError(f"{path}: a NIfTI file ends in .nii or .nii.gz")
        count = self.dense.shape[0]
        if missing := [channel for channel in channels or () if not 0 <= channel < count]:
            raise OptionError(f"no channel {missing[0]}; the features have {count}, counted from 0")
        features = self.cells() if channels is None else self.cells()[list(channels)]
        image = nifti_image(features.astype(np.float32), self.affine)
        if path is not None:
            write_atomically(Path(path), image.to_filename)
        return image

    def cells(self) -> NDArray[Any]:
        """The dense features ``(C, d, h, w)`` in the type they are read in, padded cells cut off."""
        d, h, w = self.valid_cells
        return np.asarray(self.dense[:, :d, :h, :w])

    @cached_property
    def _grid(self) -> Grid:
        if self._volume.grids is not None:
            return self._volume.grids[f"{self._prefix}dense"]
        dense = self._array("dense")
        try:
            grid = Grid.of(dense.ours)
            if any(valid > size for valid, size in zip(grid.valid, dense.shape[1:], strict=True)):
                raise MetadataError("its valid cells are more than there are")
        except MetadataError as error:
            raise self._files.damage(f"{self._prefix}dense: {error}") from error
        return grid

    def _floats(self, name: str, axis: int) -> StoredArray | Dequantised:
        """An array as floats; `axis` is that of its channels."""
        array = self._array(name)
        if array.dtype != np.int8:
            return array
        scale, offset = (self._array(f"{name}_{part}", (1,)) for part in ("scale", "offset"))
        if not scale.shape == offset.shape == (array.shape[axis],):
            raise self._files.damage(f"{self._prefix}{name}: its scale or offset is of other channels")
        return Dequantised(array, scale, offset, axis)

    def _array(self, name: str, dimensions: tuple[int, ...] | None = None) -> StoredArray:
        if name in SAVED and name not in self.saved:
            raise not_kept("its store", name, self.saved)
        return StoredArray.at(self._files, f"{self._prefix}{name}", dimensions or _DIMENSIONS[name])

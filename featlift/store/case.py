"""One volume of a store."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featlift.errors import OptionError, RemoteError, StoreError
from featlift.store.backend import Where
from featlift.store.backends import backend_of
from featlift.store.basis import Basis, not_reduced
from featlift.store.layout import METADATA, SAVED, VOLUMES, not_kept
from featlift.store.metadata import DamageError, Grid, MetadataError, RecordedVolume
from featlift.store.quantised import Dequantised
from featlift.store.recorded import RecordedFiles, StoredArray
from featlift.store.uncentred import Uncentred
from featlift.volumes.grid import Shape
from featlift.volumes.reading import read
from featlift.volumes.volume import Affine, Volume

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


class Case(CaseLayer):
    """One volume: features of its deepest layer, further layers, scan, embedding, geometry."""

    def __init__(self, files: RecordedFiles, volume: RecordedVolume, basis: Callable[[], Basis] | None = None) -> None:
        super().__init__(files, volume, basis=basis)
        self.id = volume.id

    @property
    def attributes(self) -> dict[str, Any]:
        """What is recorded of the volume: source, orientation, padding, keys with size and sha256."""
        return self._volume.attributes

    @property
    def scan(self) -> StoredArray:
        """What the backbone saw, ``(D, H, W)`` or ``(3, D, H, W)`` float16 in [0, 1], padding excluded."""
        return self._array("scan")

    @property
    def scan_shape(self) -> Shape:
        """(D, H, W) of the scan, which is known even if that is not kept."""
        return self._volume.shape

    @property
    def scan_affine(self) -> Affine | None:
        """Maps indices ``(d, h, w, 1)`` of the scan to LPS millimetres, or None."""
        return self._volume.affine

    @cached_property
    def embedding(self) -> NDArray[np.float32]:
        """One vector for the volume, ``(E,)``."""
        return np.asarray(self._array("embedding")[:])

    @property
    def embedding_parts(self) -> dict[str, tuple[int, int]]:
        """Name and range of each part of `embedding`."""
        array = self._array("embedding")
        try:
            found = {str(name): (int(low), int(high)) for name, (low, high) in array.ours["parts"].items()}
            if any(not 0 <= low < high <= array.shape[0] for low, high in found.values()):
                raise ValueError
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._files.damage("the parts of its embedding cannot be read") from error
        return found

    @cached_property
    def layers(self) -> dict[int, CaseLayer]:
        """Every stored layer by its absolute index, the deepest (the case itself) included."""
        if self._volume.grids is not None:
            paths = list(self._volume.grids)
        else:
            paths = [key.removesuffix(f"/{METADATA}") for key in self._files.files if key.endswith(f"dense/{METADATA}")]
        prefixes = [path.removesuffix("dense") for path in paths]
        further = [CaseLayer(self._files, self._volume, prefix, self._basis) for prefix in prefixes if prefix]
        layers = {int(layer.grid["layer"]): layer for layer in further}
        return dict(sorted(layers.items())) | {int(self.grid["layer"]): self}

    def check(self) -> None:
        """Look at what every array of it says of itself, without reading any.

        Raises:
            StoreError: one is missing, or cannot be what was written.
        """
        for layer in self.layers.values():
            for name in ("dense", "tokens", "slice_mean"):
                if name in self.saved:
                    getattr(layer, name)
        if "scan" in self.saved:
            self.scan  # noqa: B018 - to fail here
        if "embedding" in self.saved:
            self.embedding_parts  # noqa: B018

    def __repr__(self) -> str:
        return f"<case {self.id}: {f'dense {self.dense.shape}' if 'dense' in self.saved else ', '.join(self.saved)}>"


def open_case(path: Where, case_id: str, basis: Callable[[], Basis] | None = None) -> Case:
    """A case of the store at `path`, and what gives the store's basis.

    Raises:
        StoreError: it is not there, or what it says of itself cannot be believed.
    """
    volume = read_volume(path, case_id)
    place = backend_of(path)
    return Case(RecordedFiles(place.files(f"{VOLUMES}/{case_id}"), volume.files, case_id), volume, basis)


def read_volume(path: Where, case_id: str) -> RecordedVolume:
    """What is recorded of a case; raises as `open_case`."""
    place = backend_of(path)
    try:
        return place.volume(case_id)
    except RemoteError:
        raise
    except OSError as error:
        reason = f"{METADATA} cannot be read ({error.strerror or error})"
        raise DamageError(case_id, reason) from error
    except MetadataError as error:
        raise DamageError(case_id, f"{METADATA}: {error}") from error

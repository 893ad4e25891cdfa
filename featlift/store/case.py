"""One volume of a store."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from featlift.errors import OptionError, StoreError
from featlift.store.basis import Basis, not_reduced
from featlift.store.layout import NAMESPACE, SAVED, VOLUMES, not_kept
from featlift.store.place import Where, place_of
from featlift.store.quantised import Dequantised
from featlift.store.uncentred import Uncentred
from featlift.volumes.grid import Shape
from featlift.volumes.reading import read
from featlift.volumes.volume import Affine, Volume


class CaseLayer:
    """Features of one layer of one volume. Nothing is read before an array is indexed.

    Asking for an array that the store does not keep is a `StoreError`.

    Args:
        group: of the volume.
        prefix: of the layer's arrays in it.
        basis: gives that of its store; None for a volume without a store.
    """

    def __init__(self, group: zarr.Group, prefix: str = "", basis: Callable[[], Basis] | None = None) -> None:
        self._group = group
        self._prefix = prefix
        self._basis = basis

    @property
    def saved(self) -> tuple[str, ...]:
        """What the store keeps of each volume: of ``scan``, ``dense``, ``tokens``, ``slice_mean``, ``embedding``."""
        return tuple(_attributes(self._group).get("saved", SAVED))

    @property
    def dense(self) -> zarr.Array[Any] | Dequantised:
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
    def tokens(self) -> zarr.Array[Any] | Dequantised | None:
        """Global tokens ``(d, g, C)``, or None for a backbone without any."""
        if "tokens" in self.saved and f"{self._prefix}tokens" not in self._group:
            return None
        return self._floats("tokens", axis=2)

    @property
    def slice_mean(self) -> zarr.Array[Any]:
        """Mean of the patch tokens of each slice, ``(d, C)``, padding excluded."""
        return self._array("slice_mean")

    @cached_property
    def grid(self) -> dict[str, Any]:
        """What is recorded of the grid of `dense`, kept or not: layer, stride, offset, valid cells, affine, ..."""
        grids = _attributes(self._group).get("grids")
        recorded: dict[str, Any] = grids[f"{self._prefix}dense"] if grids else _attributes(self._array("dense"))
        return recorded

    @property
    def stride(self) -> tuple[int, int, int]:
        """Voxels of the scan from one cell to the next along d, h and w."""
        d, h, w = self.grid["stride"]
        return d, h, w

    @property
    def offset(self) -> tuple[float, float, float]:
        """(d, h, w) in the scan of the centre of the first cell."""
        d, h, w = self.grid["offset"]
        return d, h, w

    @property
    def valid_cells(self) -> tuple[int, int, int]:
        """(d, h, w) of the dense cells that are scan; those beyond are padding."""
        depth, height, width = self.grid["valid"]
        return depth, height, width

    @cached_property
    def affine(self) -> Affine | None:
        """Maps indices ``(d, h, w, 1)`` of `dense` to LPS millimetres; None where the scan's geometry is unknown."""
        return _affine(self.grid)

    def sample(self, points: ArrayLike, order: int = 1) -> NDArray[np.float32]:
        """Features at points in the patient.

        Args:
            points: ``(N, 3)``, LPS millimetres.
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

    def _floats(self, name: str, axis: int) -> zarr.Array[Any] | Dequantised:
        """An array as floats; `axis` is that of its channels."""
        array = self._array(name)
        if array.dtype != np.int8:
            return array
        return Dequantised(array, self._array(f"{name}_scale"), self._array(f"{name}_offset"), axis)

    def _array(self, name: str) -> zarr.Array[Any]:
        if name in SAVED and name not in self.saved:
            raise not_kept("its store", name, self.saved)
        if f"{self._prefix}{name}" not in self._group:
            where = self._group.store_path
            raise StoreError(f"{where}: no array '{self._prefix}{name}' in this case; `featlift verify` finds damage")
        array = self._group[f"{self._prefix}{name}"]
        assert isinstance(array, zarr.Array)
        return array


class Case(CaseLayer):
    """One volume: features of its deepest layer, further layers, scan, embedding, geometry."""

    def __init__(self, group: zarr.Group, case_id: str, basis: Callable[[], Basis] | None = None) -> None:
        super().__init__(group, basis=basis)
        self.id = case_id

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What is recorded of the volume: source, orientation, padding, keys with size and sha256."""
        return _attributes(self._group)

    @property
    def scan(self) -> zarr.Array[Any]:
        """What the backbone saw, ``(D, H, W)`` or ``(3, D, H, W)`` float16 in [0, 1], padding excluded."""
        return self._array("scan")

    @property
    def scan_shape(self) -> Shape:
        """(D, H, W) of the scan, which is known even if that is not kept."""
        depth, height, width = self.attributes["shape"]
        return depth, height, width

    @cached_property
    def scan_affine(self) -> Affine | None:
        """Maps indices ``(d, h, w, 1)`` of the scan to LPS millimetres, or None."""
        return _affine(self.attributes)

    @cached_property
    def embedding(self) -> NDArray[np.float32]:
        """One vector for the volume, ``(E,)``."""
        return np.asarray(self._array("embedding")[:])

    @property
    def embedding_parts(self) -> dict[str, tuple[int, int]]:
        """Name and range of each part of `embedding`."""
        parts = _attributes(self._array("embedding"))["parts"]
        return {name: (low, high) for name, (low, high) in parts.items()}

    @cached_property
    def layers(self) -> dict[int, CaseLayer]:
        """Every stored layer by its absolute index, the deepest (the case itself) included."""
        if "grids" in self.attributes:
            prefixes = [path.removesuffix("dense") for path in self.attributes["grids"]]
        elif "layers" in self._group:
            prefixes = [f"layers/{name}/" for name, _ in self._group["layers"].groups()]  # type: ignore[union-attr]
        else:
            prefixes = []
        further = [CaseLayer(self._group, prefix, self._basis) for prefix in prefixes if prefix]
        layers = {int(layer.grid["layer"]): layer for layer in further}
        return dict(sorted(layers.items())) | {int(self.grid["layer"]): self}

    def __repr__(self) -> str:
        return f"<case {self.id}: {f'dense {self.dense.shape}' if 'dense' in self.saved else ', '.join(self.saved)}>"


def open_case(path: Where, case_id: str, basis: Callable[[], Basis] | None = None) -> Case:
    """A case of the store at `path`, and what gives the store's basis."""
    return Case(zarr.open_group(place_of(path).group(f"{VOLUMES}/{case_id}"), mode="r", zarr_format=3), case_id, basis)


def _attributes(node: zarr.Group | zarr.Array[Any]) -> dict[str, Any]:
    return cast(dict[str, Any], node.attrs[NAMESPACE])


def _affine(recorded: dict[str, Any]) -> Affine | None:
    affine = recorded.get("affine")
    return None if affine is None else np.array(affine)

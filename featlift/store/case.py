"""One volume of a store."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from featlift.errors import OptionError, StoreError
from featlift.store.layout import NAMESPACE, VOLUMES
from featlift.store.place import Where, place_of
from featlift.volumes.reading import read
from featlift.volumes.volume import Affine, Volume


class CaseLayer:
    """Features of one layer of one volume. Nothing is read before an array is indexed."""

    def __init__(self, group: zarr.Group) -> None:
        self._group = group

    @property
    def dense(self) -> zarr.Array[Any]:
        """Dense features ``(C, d, h, w)``; index it to read: ``case.dense[:, 10]``."""
        return _array(self._group, "dense")

    @property
    def tokens(self) -> zarr.Array[Any] | None:
        """Global tokens ``(d, g, C)``, or None for a backbone without any."""
        return _array(self._group, "tokens") if "tokens" in self._group else None

    @property
    def slice_mean(self) -> zarr.Array[Any]:
        """Mean of the patch tokens of each slice, ``(d, C)``, padding excluded."""
        return _array(self._group, "slice_mean")

    @property
    def stride(self) -> tuple[int, int, int]:
        """Voxels of the scan from one cell to the next along d, h and w."""
        d, h, w = _attributes(self.dense)["stride"]
        return d, h, w

    @property
    def offset(self) -> tuple[float, float, float]:
        """(d, h, w) in the scan of the centre of the first cell."""
        d, h, w = _attributes(self.dense)["offset"]
        return d, h, w

    @property
    def valid_cells(self) -> tuple[int, int, int]:
        """(d, h, w) of the dense cells that are scan; those beyond are padding."""
        depth, height, width = _attributes(self.dense)["valid"]
        return depth, height, width

    @cached_property
    def affine(self) -> Affine | None:
        """Maps indices ``(d, h, w, 1)`` of `dense` to LPS millimetres; None where the scan's geometry is unknown."""
        return _affine(self.dense)

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


class Case(CaseLayer):
    """One volume: features of its deepest layer, further layers, scan, embedding, geometry."""

    def __init__(self, group: zarr.Group, case_id: str) -> None:
        super().__init__(group)
        self.id = case_id

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What is recorded of the volume: source, orientation, padding, keys with size and sha256."""
        return _attributes(self._group)

    @property
    def scan(self) -> zarr.Array[Any]:
        """What the backbone saw, ``(D, H, W)`` or ``(3, D, H, W)`` float16 in [0, 1], padding excluded."""
        return _array(self._group, "scan")

    @cached_property
    def scan_affine(self) -> Affine | None:
        """Maps indices ``(d, h, w, 1)`` of `scan` to LPS millimetres, or None."""
        return _affine(self.scan)

    @cached_property
    def embedding(self) -> NDArray[np.float32]:
        """One vector for the volume, ``(E,)``."""
        return np.asarray(_array(self._group, "embedding")[:])

    @property
    def embedding_parts(self) -> dict[str, tuple[int, int]]:
        """Name and range of each part of `embedding`."""
        parts = _attributes(_array(self._group, "embedding"))["parts"]
        return {name: (low, high) for name, (low, high) in parts.items()}

    @cached_property
    def layers(self) -> dict[int, CaseLayer]:
        """Every stored layer by its absolute index, the deepest (the case itself) included."""
        deepest = int(_attributes(self.dense)["layer"])
        layers: dict[int, CaseLayer] = {}
        if "layers" in self._group:
            for name, group in self._group["layers"].groups():  # type: ignore[union-attr]
                layers[int(name)] = CaseLayer(group)
        return dict(sorted(layers.items())) | {deepest: self}

    def __repr__(self) -> str:
        return f"<case {self.id}: dense {self.dense.shape}>"


def open_case(path: Where, case_id: str) -> Case:
    """A case of the store at `path`."""
    return Case(zarr.open_group(place_of(path).group(f"{VOLUMES}/{case_id}"), mode="r", zarr_format=3), case_id)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    if name not in group:
        raise StoreError(f"{group.store_path}: no array {name!r} in this case; `featlift verify` finds damage")
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _attributes(node: zarr.Group | zarr.Array[Any]) -> dict[str, Any]:
    return cast(dict[str, Any], node.attrs[NAMESPACE])


def _affine(array: zarr.Array[Any]) -> Affine | None:
    affine = _attributes(array)["affine"]
    return None if affine is None else np.array(affine)

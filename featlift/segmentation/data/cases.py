"""What a head reads of a case: features at the cells of a frame, the scan and the labels at its predicted voxels."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.segmentation.data.frame import Frame
from featlift.segmentation.networks.head import Batch
from featlift.segmentation.plan import Features
from featlift.store.case import Case, CaseLayer
from featlift.store.features import labels_of
from featlift.store.reading import Store
from featlift.volumes.reading import read_mask
from featlift.volumes.regions import Box, cut
from featlift.volumes.source import MaskFile
from featlift.volumes.volume import Volume

BEYOND = -1  # label, and class, of voxels beyond the scan: the loss leaves them out


@dataclass(frozen=True, eq=False)
class CaseReader:
    """Reads cases of a store for one head.

    Attributes:
        store: of the cases.
        needs: what the head asks for, see `Head.needs`.
        layers: absolute indices; features of several stand one after the other.
        features: where features come from.
        step: voxels of the scan for each predicted one, in-plane.
        labels: the label of each class, in ascending order, background first; none of affinities.
        masks: the path of the mask of each case, by its id; only training needs them.
    """

    store: Store
    needs: tuple[str, ...]
    layers: tuple[int, ...]
    features: Features
    step: int
    labels: tuple[int, ...] = ()
    masks: Mapping[str, MaskFile] = field(default_factory=dict)
    _kept: dict[str, Batch] = field(default_factory=dict)
    _classes: dict[str, NDArray[np.int16]] = field(default_factory=dict)

    def frame(self, case: Case) -> Frame:
        """The frame of the finest of the layers."""
        layers = case.layers
        finest = min((layers[index] for index in self.layers), key=lambda layer: layer.stride[1])
        return Frame.of(finest, case.scan_shape, self.step)

    def read(self, case_id: str, box: Box | None = None) -> Batch:
        """One case, or a box of its cells, as a batch of one without labels; what `keep` kept is not read again.

        Raises:
            StoreError: its features are damaged.
        """
        case = self.store[case_id]
        frame = self.frame(case)
        box = box or Box((0, 0, 0), frame.cells)
        if case_id in self._kept:
            return part_of(self._kept[case_id], frame, box)
        return self._read(case, frame, box)

    def keep(self, case_id: str) -> None:
        """Hold a whole case in memory, features as float16."""
        if self.labels:
            self._classes[case_id] = self.classes(case_id)
        batch = self.read(case_id)
        half = {name: value.half() for name, value in vars(batch).items() if value is not None and name != "depth"}
        self._kept[case_id] = Batch(batch.depth, **half)

    def bytes_of(self, case_id: str) -> int:
        """What `keep` would take."""
        case = self.store[case_id]
        frame = self.frame(case)
        values = math.prod(frame.fine)  # classes
        if "dense" in self.needs:
            values += sum(case.layers[index].dense.shape[0] for index in self.layers) * math.prod(frame.cells)
        if "scan" in self.needs:
            values += (3 if len(case.scan.shape) == 4 else 1) * math.prod(frame.fine)
        return 2 * values

    def classes(self, case_id: str) -> NDArray[np.int16]:
        """The class of each predicted voxel ``(D, H, W)``, `BEYOND` where there is no scan."""
        if case_id in self._classes:
            return self._classes[case_id]
        labels, _ = self.labels_of(case_id)
        return np.where(labels == BEYOND, BEYOND, np.searchsorted(self.labels, labels)).astype(np.int16)

    def labels_of(self, case_id: str) -> tuple[NDArray[np.int32], Volume]:
        """The label of each predicted voxel ``(D, H, W)``, `BEYOND` where there is no scan; and the mask as read.

        Raises:
            VolumeError: the mask is damaged, empty, of another place, or the scan itself.
        """
        case, volume = self.store[case_id], mask_of(case_id, self.masks[case_id])
        try:
            labels = labels_of(case, volume)
        except VolumeError as error:
            raise VolumeError(f"{case_id}: {error}") from error
        frame = self.frame(case)
        on_frame = frame.grid.labels_on_cells(labels)
        return np.where(frame.inside, on_frame, BEYOND), volume

    def _read(self, case: Case, frame: Frame, box: Box) -> Batch:
        centres = frame.centres(box)
        held = {}
        if "dense" in self.needs:
            held["features"] = np.concatenate([self._dense(case, index, centres) for index in self.layers])
        if "slice_mean" in self.needs and self.features != "none":
            held["slices"] = np.concatenate([self._slices(case, index, centres[0]) for index in self.layers])
        if "scan" in self.needs:
            held["scan"] = scan_under(case, frame, frame.under(box))
        depth = torch.from_numpy(centres[0] / max(1, case.scan_shape[0] - 1)).float()[None]
        return Batch(depth, **{name: torch.from_numpy(array)[None] for name, array in held.items()})

    def _dense(self, case: Case, index: int, centres: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
        layer = case.layers[index]
        if self.features == "random":
            channels, *cells = layer.dense.shape
            noise = _random(case.id, index).standard_normal((channels, *cells), dtype=np.float32)
            return interpolated(noise, layer, centres)
        return interpolated(layer.dense, layer, centres)

    def _slices(self, case: Case, index: int, depth: NDArray[np.float64]) -> NDArray[np.float32]:
        layer = case.layers[index]
        means = np.asarray(layer.slice_mean[:], dtype=np.float32)
        if self.features == "random":
            means = _random(case.id, index).standard_normal(means.shape, dtype=np.float32)
        at = (depth - layer.offset[0]) / layer.stride[0]
        return _along(means.T, 1, np.clip(at, 0, len(means) - 1))


def _random(case_id: str, layer: int) -> np.random.Generator:
    """Other noise for each case and layer, the same on every machine."""
    return np.random.default_rng([zlib.crc32(case_id.encode()), layer])


def interpolated(dense: object, layer: CaseLayer, centres: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Features ``(C, d, h, w)`` at places of the scan, interpolated linearly between cells; beyond them, the nearest.

    At the cells' own centres these are the features themselves. Padded cells are not looked at.

    Args:
        dense: ``(C, d, h, w)`` of the layer; only what is needed of it is read.
        layer: where its cells lie.
        centres: places along d, h and w, in voxels of the scan.
    """
    axes = zip(centres, layer.offset, layer.stride, layer.valid_cells, strict=True)
    places = [np.clip((at - offset) / stride, 0, n - 1) for at, offset, stride, n in axes]
    box = tuple(slice(int(at.min()), int(np.ceil(at.max())) + 1) for at in places)
    values = np.asarray(dense[(slice(None), *box)], dtype=np.float32)  # type: ignore[index]
    for axis, (at, where) in enumerate(zip(places, box, strict=True), start=1):
        values = _along(values, axis, at - where.start)
    return values


def _along(values: NDArray[np.float32], axis: int, places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values at fractional places of one axis."""
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (places - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    lower: NDArray[np.float32] = values.take(low, axis)
    return lower + share * (values.take(high, axis) - lower) if share.any() else lower


def scan_under(case: Case, frame: Frame, box: Box) -> NDArray[np.float32]:
    """The scan ``(1 or 3, D, H, W)`` at a box of predicted voxels: the mean of the voxels that each one stands for."""
    start = [first + at * step for first, at, step in zip(frame.start, box.start, frame.step, strict=True)]
    shape = [n * step for n, step in zip(box.shape, frame.step, strict=True)]
    part, _ = cut(case.scan, None, Box((start[0], start[1], start[2]), (shape[0], shape[1], shape[2])))
    blocks = [part for n, step in zip(box.shape, frame.step, strict=True) for part in (n, step)]
    channels = 1 if part.ndim == 3 else len(part)
    means: NDArray[np.float32] = part.astype(np.float32).reshape(channels, *blocks).mean(axis=(2, 4, 6))
    return means


def part_of(batch: Batch, frame: Frame, box: Box) -> Batch:
    """A box of cells of a whole case, in float32."""
    cells = tuple(slice(first, first + n) for first, n in zip(box.start, box.shape, strict=True))
    under = frame.under(box)
    fine = tuple(slice(first, first + n) for first, n in zip(under.start, under.shape, strict=True))
    where = {"features": (..., *cells), "slices": (..., cells[0]), "scan": (..., *fine)}
    held = {
        name: value[where[name]].float() for name, value in vars(batch).items() if name in where and value is not None
    }
    return Batch(batch.depth[:, cells[0]], **held)


def mask_of(case_id: str, mask: MaskFile) -> Volume:
    """A mask; errors name the case.

    Raises:
        VolumeError: it is missing or damaged.
    """
    try:
        return read_mask(mask)
    except (VolumeError, FileNotFoundError) as error:
        raise VolumeError(f"{case_id}: {error}") from error


def layers_of(store: Store, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Layers to take, ascending; None takes the deepest.

    Raises:
        OptionError: a layer that the store does not hold.
    """
    held = store.recipe["layers"]
    if layers and (unknown := [layer for layer in layers if layer not in held]):
        raise OptionError(f"layer {unknown[0]}: {store.path} holds {', '.join(map(str, held))}")
    return tuple(sorted(set(layers))) if layers else (max(held),)

"""Embeddings of regions: of each label of a mask, what the features inside of it are in the mean and how they vary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, StoreError, VolumeError
from featlift.store.case import Case
from featlift.store.cells import CellGrid, VoxelGrid
from featlift.store.features import features_of, layer_of
from featlift.store.mask_grid import MaskGrid
from featlift.store.reading import Store
from featlift.store.truth import truth_of
from featlift.volumes.grid import Shape
from featlift.volumes.reading import read_mask
from featlift.volumes.source import MaskFile
from featlift.volumes.volume import Affine, Volume

Vector = NDArray[np.float32]

_TRIMMED = 0.1  # of the voxels at either end


@dataclass(frozen=True, eq=False)
class Region:
    """One label of the mask of one case.

    Attributes:
        case: id of the case.
        label: of the mask.
        voxels: how many are labelled so and lie within the scan.
        volume: in mm³; None where the mask does not say where it lies, as with the next two.
        centroid: (x, y, z), LPS millimetres.
        box: ((x, y, z), (x, y, z)) of the lowest and highest edges, LPS millimetres.
        cells: in how many cells these voxels lie.
        smaller_than_a_cell: all of it would fit into one cell, so that its features are those of its surroundings too.
        mean: ``(C,)``, of the features of its voxels, each of which has those of its cell.
        trimmed: ``(C,)``, the same without the lowest and the highest tenth of each channel.
        deviation: ``(C,)``, standard deviation of each channel.
        name: of the label, empty where it is not known.
    """

    case: str
    label: int
    voxels: int
    volume: float | None
    centroid: tuple[float, ...] | None
    box: tuple[tuple[float, ...], tuple[float, ...]] | None
    cells: int
    smaller_than_a_cell: bool
    mean: Vector
    trimmed: Vector
    deviation: Vector
    name: str = ""

    @property
    def id(self) -> str:
        """Of this region among all: case and label."""
        return f"{self.case}:{self.label}"


def regions(
    store: Store, masks: Mapping[str, MaskFile], layer: int | None = None
) -> Iterator[tuple[str, list[Region], str]]:
    """The regions of every case that has a mask.

    Args:
        store: with dense features.
        masks: the path of the mask of each case, by its id; see `featlift.find_masks`.
        layer: by its absolute index; None takes the deepest.

    Yields:
        Id of each case in turn, its regions, and why there are none: a mask that is damaged, empty, of another place.

    Raises:
        OptionError: no masks, or a layer that the store does not hold.
        StoreError: the store keeps no dense features.
    """
    store.require("dense")
    store.require_cases(masks)
    if not masks:
        raise OptionError(f"no masks for {store.path}: they say where regions are")
    held = store.recipe["layers"]
    if layer is not None and layer not in held:
        raise OptionError(f"layer {layer}: {store.path} holds {', '.join(map(str, held))}")
    return _regions(store, masks, layer)


def _regions(store: Store, masks: Mapping[str, MaskFile], layer: int | None) -> Iterator[tuple[str, list[Region], str]]:
    labels_of = lru_cache(maxsize=1)(read_mask)
    for case_id in sorted(masks):
        try:
            yield case_id, regions_of(store[case_id], labels_of(masks[case_id]), layer), ""
        except (VolumeError, StoreError, FileNotFoundError) as error:
            yield case_id, [], str(error)


def regions_of(case: Case, mask: Volume, layer: int | None = None) -> list[Region]:
    """The regions of one case, by label.

    A cell that lies in a region by half counts half: each voxel of the mask has the features of the cell it is in.

    Args:
        case: of a store, or made by `featlift.extract`.
        mask: of the patient, on any grid. Without geometry it has to lie as the scan does.
        layer: by its absolute index; None takes the deepest.

    Raises:
        VolumeError: the mask is empty, holds no labels, or does not overlap the case.
        StoreError: the features are damaged.
    """
    from scipy.ndimage import find_objects

    of = layer_of(case, layer)
    lies = case.scan_affine is not None and mask.affine is not None
    truth = truth_of(case, of, mask, "mask" if lies else "scan")
    features = features_of(of).reshape(-1, np.prod(of.valid_cells))
    cell_voxels = np.prod(of.stride) * (1 if not lies else _volume(case.scan_affine) / _volume(truth.affine))
    found = []
    boxes = find_objects(truth.labels)
    for label, (cells, counts) in _cells_of_labels(truth.labels, truth.grid).items():
        inside = features[:, cells]
        shares = counts / counts.sum()
        mean = inside @ shares
        variance = np.square(inside - mean[:, None]) @ shares
        voxels = int(counts.sum())
        box = boxes[label - 1]
        inside_box = np.argwhere(truth.labels[box] == label) + [along.start for along in box]
        where = _place(inside_box, truth.affine)
        found.append(
            Region(
                case.id,
                label,
                voxels,
                *where,
                cells=len(cells),
                smaller_than_a_cell=bool(voxels < cell_voxels),
                mean=mean.astype(np.float32),
                trimmed=trimmed_mean(inside, shares).astype(np.float32),
                deviation=np.sqrt(variance).astype(np.float32),
            )
        )
    return found


def trimmed_mean(values: NDArray[np.float32], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean of each row ``(C, N)`` without its lowest and highest tenth, ``(C,)``.

    Args:
        values: of N things.
        shares: ``(N,)``, how much of the whole each thing is; their sum is 1.
    """
    trimmed = np.empty(len(values))
    for channel, row in enumerate(values):  # one at a time: of a whole body, all would be gigabytes
        order = np.argsort(row)
        upper = np.cumsum(shares[order])
        kept = np.diff(np.clip(upper, _TRIMMED, 1 - _TRIMMED), prepend=_TRIMMED)
        trimmed[channel] = (row[order] * kept).sum() / kept.sum()
    return trimmed


def _cells_of_labels(
    labels: NDArray[np.int32], grid: VoxelGrid
) -> dict[int, tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Of each label the cells that its voxels lie in, flattened, and how many lie in each."""
    matrix, cells = _to_cells(grid)
    count = int(np.prod(cells))
    keys: list[NDArray[np.int64]] = []
    counts: list[NDArray[np.intp]] = []
    for depth, plane in enumerate(labels):  # a plane at a time: places take more memory than labels
        rows, columns = np.nonzero(plane)
        voxels = np.stack([np.full(len(rows), depth), rows, columns, np.ones(len(rows), np.intp)])
        nearest = np.floor((matrix @ voxels)[:3] + 0.5).astype(np.intp)
        inside = np.clip(nearest, 0, np.array(cells)[:, None] - 1)
        flat = np.ravel_multi_index(tuple(inside), cells)
        key, number = np.unique(plane[rows, columns].astype(np.int64) * count + flat, return_counts=True)
        keys.append(key)
        counts.append(number)
    every, places = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(places, weights=np.concatenate(counts), minlength=len(every))
    owner = every // count
    return {int(label): (every[owner == label] % count, total[owner == label]) for label in np.unique(owner)}


def _to_cells(grid: VoxelGrid) -> tuple[Affine, Shape]:
    """4x4, indices of voxels to indices of cells; and (d, h, w) of these."""
    if isinstance(grid, MaskGrid):
        return grid.to_cells, grid.cells
    assert isinstance(grid, CellGrid)
    matrix = np.diag([*(1 / np.array(grid.stride)), 1.0])
    matrix[:3, 3] = -np.array(grid.offset) / grid.stride
    return matrix, grid.cells


def _place(
    voxels: NDArray[np.intp], affine: Affine | None
) -> tuple[float | None, tuple[float, ...] | None, tuple[tuple[float, ...], tuple[float, ...]] | None]:
    """Volume, centroid and box of voxels ``(N, 3)``."""
    if affine is None:
        return None, None, None
    centroid = affine[:3, :3] @ voxels.mean(axis=0) + affine[:3, 3]
    ends = np.stack([voxels.min(axis=0) - 0.5, voxels.max(axis=0) + 0.5])
    corners = np.array([affine[:3, :3] @ corner + affine[:3, 3] for corner in product(*ends.T)])
    box = (tuple(corners.min(axis=0).tolist()), tuple(corners.max(axis=0).tolist()))
    return len(voxels) * _volume(affine), tuple(centroid.tolist()), box


def _volume(affine: Affine | None) -> float:
    assert affine is not None
    return float(abs(np.linalg.det(affine[:3, :3])))

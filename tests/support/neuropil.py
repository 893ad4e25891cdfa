"""Phantoms of neuropil as serial sections show it: cells that touch, dark membranes, organelles, thick sections."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from scipy.spatial import KDTree

NEURONS = "volumes/labels/neuron_ids"
RAW = "volumes/raw"

_THICKNESS = 3.0  # pixels that a section counts as, where cells are laid out
_SMALLEST = 60  # voxels of a cell
_BENDING = 5.0  # pixels, standard deviation
_MEMBRANE = 1.5  # pixels from a border in the section
_BLUR = 0.7  # pixels


@dataclass(frozen=True, eq=False)
class Neuropil:
    """One phantom.

    Attributes:
        raw: ``(D, H, W)`` uint8.
        labels: ``(D, H, W)`` uint64 without background, every cell in one piece.
        organelles: ``(D, H, W)``, where some lie.
        shifts: ``(D, 2)`` pixels by which each section lies beside where it belongs.
        resolution: nanometres along (d, h, w).
    """

    raw: np.ndarray
    labels: np.ndarray
    organelles: np.ndarray
    shifts: np.ndarray
    resolution: tuple[float, float, float] = (40.0, 4.0, 4.0)

    def write(self, path: Path) -> Path:
        """A file of CREMI's layout."""
        with h5py.File(path, "w") as file:
            for name, array in ((RAW, self.raw), (NEURONS, self.labels)):
                file.create_dataset(name, data=array, compression="gzip").attrs["resolution"] = self.resolution
        return path


def neuropil(
    seed: int,
    shape: tuple[int, int, int] = (16, 96, 96),
    cells: int = 40,
    shift: float = 0.7,
    organelles: int = 25,
    noise: float = 13.0,
    first_id: int = 1,
) -> Neuropil:
    """A phantom of its own for every seed: Voronoi cells with bent borders, drawn as an electron microscope would.

    Args:
        seed: of all that is drawn.
        shape: (D, H, W).
        cells: points that cells grow around; bent ones may fall into several.
        shift: standard deviation in pixels of the step from one section to the next, as of sections aligned badly.
        organelles: dark ellipsoids within cells.
        noise: standard deviation, in grey values of 256.
        first_id: of the labels, which follow one another.
    """
    rng = np.random.default_rng(seed)
    shifts = np.cumsum(rng.normal(0, shift, (shape[0], 2)), axis=0)
    labels = _in_one_piece(_voronoi(rng, shape, cells, shifts))
    inside = _ellipsoids(rng, shape, organelles, labels)
    raw = _drawn(rng, labels, inside, noise)
    return Neuropil(raw, labels.astype(np.uint64) + np.uint64(first_id - 1), inside, shifts)


def _voronoi(rng: np.random.Generator, shape: tuple[int, ...], cells: int, shifts: np.ndarray) -> np.ndarray:
    """The nearest of so many points, from places that a smooth noise and the shifts of sections move in plane."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(np.float64)
    for axis in (1, 2):
        bending = gaussian_filter(rng.normal(size=shape), (1.5, 10, 10))
        places[..., axis] += bending * (_BENDING / bending.std()) + shifts[:, axis - 1, None, None]
    anisotropy = np.array([_THICKNESS, 1, 1])
    points = rng.uniform(0, shape, (cells, 3))
    return 1 + KDTree(points * anisotropy).query(places.reshape(-1, 3) * anisotropy)[1].reshape(shape)


def _in_one_piece(labels: np.ndarray) -> np.ndarray:
    """Parts that share no face get labels of their own; what is small goes to the nearest that is not."""
    parts = _pieces(labels)
    while (small := np.bincount(parts.ravel())[parts] < _SMALLEST).any():
        nearest = distance_transform_edt(small, (_THICKNESS, 1, 1), return_distances=False, return_indices=True)
        parts = _pieces(parts[tuple(nearest)])  # which may leave a voxel between two others apart from its own
    return parts


def _pieces(labels: np.ndarray) -> np.ndarray:
    """A label from 1 for every part of voxels of one label that share faces."""
    parts, count = np.zeros_like(labels), 0
    for each in np.unique(labels):
        found, number = label(labels == each)
        parts[found > 0] = found[found > 0] + count
        count += number
    return parts


def _ellipsoids(rng: np.random.Generator, shape: tuple[int, ...], count: int, labels: np.ndarray) -> np.ndarray:
    """Ellipsoids, as far as they are in the cell of their centre and off its membrane."""
    inside = np.zeros(shape, bool)
    off_membrane = _from_border(labels) > 2 * _MEMBRANE
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    for centre in rng.integers(0, shape, (count, 3)):
        radii = np.array([rng.uniform(1, 2), *rng.uniform(3, 6, 2)])
        near = (((grid - centre) / radii) ** 2).sum(-1) <= 1
        inside |= near & off_membrane & (labels == labels[tuple(centre)])
    return inside


def _from_border(labels: np.ndarray) -> np.ndarray:
    """Pixels to the nearest that has a neighbour of another label in its section."""
    on_border = np.zeros(labels.shape, bool)
    for axis in (1, 2):
        differs = np.diff(labels, axis=axis) != 0
        before, after = (np.delete(np.arange(labels.shape[axis]), end) for end in (-1, 0))
        for places in (before, after):
            index = [slice(None)] * 3
            index[axis] = places
            on_border[tuple(index)] |= differs
    return np.stack([distance_transform_edt(~section) if section.any() else section + 1e3 for section in on_border])


def _drawn(rng: np.random.Generator, labels: np.ndarray, organelles: np.ndarray, noise: float) -> np.ndarray:
    """Grey values: a tone for each cell, dark membranes and organelles, blur, sections of unlike brightness, noise."""
    tones = rng.uniform(150, 200, labels.max() + 1)
    membrane = np.exp(-((_from_border(labels) / _MEMBRANE) ** 2))
    changes = np.zeros_like(membrane)
    changes[1:] = np.diff(labels, axis=0) != 0  # a membrane that the section cuts flat
    image = tones[labels] * (1 - 0.7 * np.maximum(membrane, 0.5 * changes))
    image = np.where(organelles, 0.55 * image, image)
    image = gaussian_filter(image, (0, _BLUR, _BLUR)) + rng.normal(0, 6, (len(labels), 1, 1))
    return np.clip(image + rng.normal(0, noise, labels.shape), 0, 255).round().astype(np.uint8)

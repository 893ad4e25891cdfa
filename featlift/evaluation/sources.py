"""What an evaluation is given of a case: the stored features, controls that no network made, or both side by side.

Controls say what a score owes to the network. They lie on the cells of the stored features: nothing else differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.store.case import Case, CaseLayer
from featlift.store.features import features_of, grid_of, scan_of
from featlift.volumes.volume import spacing_of

#: ``stored``: the features; ``smoothed``: they, with Gaussian weights along depth, as wide as a cell in the plane;
#: ``layers``: those of all layers in the store; ``coordinates``: sines and cosines of the place in the scan;
#: ``intensity``: means of the scan at four scales.
SOURCES = ("stored", "smoothed", "layers", "coordinates", "intensity")

STORED, LAYERS = "stored", "layers"
_WAVELENGTHS = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)  # mm
_WIDTHS = (0.0, 1.0, 2.0, 4.0)  # standard deviations of the means, in widths of a cell

Features = NDArray[np.float32]


def check_sources(given: str) -> tuple[str, ...]:
    """The sources that a text such as ``stored+coordinates`` names.

    Raises:
        OptionError: one that there is not, one twice, or none.
    """
    names = tuple(given.split("+"))
    if wrong := [name for name in names if name not in SOURCES]:
        raise OptionError(f"features {wrong[0]!r}: choose {', '.join(SOURCES)}, or several with + between")
    if len(set(names)) < len(names):
        raise OptionError(f"features {given!r}: one stands twice")
    return names


def features_from(case: Case, layer: CaseLayer, sources: str = STORED, uncentred: bool = False) -> Features:
    """Features of a case ``(C, d, h, w)``, padded cells cut off.

    Several sources are concatenated, each brought to a mean squared length of 1, so that none outweighs another in
    cosines.

    Args:
        case: of a store.
        layer: of the case.
        sources: see `SOURCES`, with + between.
        uncentred: give reduced features their mean back, see `CaseLayer.uncentred`.

    Raises:
        OptionError: another source; layers whose cells differ.
        StoreError: features or scan are damaged, or not kept.
    """
    parts = [_source(case, layer, name, uncentred) for name in check_sources(sources)]
    return parts[0] if len(parts) == 1 else _side_by_side(parts)


def _side_by_side(parts: Sequence[Features]) -> Features:
    return np.concatenate([part / np.sqrt(np.square(part).sum(axis=0).mean() + 1e-12) for part in parts])


def _source(case: Case, layer: CaseLayer, name: str, uncentred: bool) -> Features:
    if name == "coordinates":
        return coordinates(case, layer)
    if name == "intensity":
        return intensity(case, layer)
    if name == LAYERS:
        if len({other.valid_cells for other in case.layers.values()}) > 1:
            raise OptionError("features 'layers': the cells of the store's layers differ in size")
        return _side_by_side([features_of(other, uncentred=uncentred) for other in case.layers.values()])
    features = features_of(layer, uncentred=uncentred)
    if name == "smoothed":
        from scipy.ndimage import gaussian_filter1d

        depth, _, width = _cell_mm(case, layer)
        features = gaussian_filter1d(features, width / 2 / depth, axis=1, mode="nearest")
    return features


def coordinates(case: Case, layer: CaseLayer) -> Features:
    """Sines and cosines of each cell's distance from the middle of its scan, ``(36, d, h, w)``.

    Wavelengths are 8 to 256 mm along each axis, of a scan without geometry 8 to 256 voxels.
    """
    parts = []
    axes = zip(layer.valid_cells, layer.offset, layer.stride, case.scan_shape, _spacing(case), strict=True)
    for axis, (cells, offset, stride, voxels, spacing) in enumerate(axes):
        at = (offset + stride * np.arange(cells) - (voxels - 1) / 2) * spacing
        angles = 2 * np.pi * at / np.array(_WAVELENGTHS)[:, None]
        codes = np.concatenate([np.sin(angles), np.cos(angles)])
        shape = [len(codes), *(cells if other == axis else 1 for other in range(3))]
        parts.append(np.broadcast_to(codes.reshape(shape), (len(codes), *layer.valid_cells)))
    return np.concatenate(parts).astype(np.float32)


def intensity(case: Case, layer: CaseLayer) -> Features:
    """The scan's mean in each cell, and Gaussian means 1, 2 and 4 cells wide, ``(4, d, h, w)`` or ``(12, d, h, w)``.

    Each is standardised over the case: lengths then say how unusual a place is, and cosines in which way.
    """
    from scipy.ndimage import gaussian_filter, uniform_filter1d

    scan = np.atleast_3d(scan_of(case).astype(np.float32)).reshape(-1, *case.scan_shape)
    sizes = _cell_mm(case, layer)
    found = []
    for channel in scan:
        for axis, stride in enumerate(layer.stride):
            channel = uniform_filter1d(channel, stride, axis=axis, mode="nearest")
        means = channel[np.ix_(*grid_of(case, layer).voxels_of_cells())]
        for width in _WIDTHS:
            smooth = gaussian_filter(means, [width * sizes[2] / size for size in sizes], mode="nearest")
            found.append((smooth - smooth.mean()) / (smooth.std() + 1e-6))
    return np.stack(found).astype(np.float32)


def _cell_mm(case: Case, layer: CaseLayer) -> Sequence[float]:
    """(d, h, w) in mm from one cell to the next."""
    return [stride * spacing for stride, spacing in zip(layer.stride, _spacing(case), strict=True)]


def _spacing(case: Case) -> Sequence[float]:
    return (1.0, 1.0, 1.0) if case.scan_affine is None else spacing_of(case.scan_affine)

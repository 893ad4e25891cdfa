"""A case at a glance: its middle slice as a thumbnail, in grey and in colours, and how its intensities are spread."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.drawing.anatomy import View, views
from featlift.errors import RemoteError
from featlift.pictures.colours import Colours
from featlift.sample import evenly_spaced
from featlift.store.case import Case
from featlift.store.features import features_of, grid_of, layer_of, scan_of
from featlift.store.reading import Store

#: Bins of intensities from 0 to 1.
BINS = 32

_SIDE = 128  # pixels of the longer side of a thumbnail
_QUALITY = 70  # of WebP
_SLICES = 5  # whose intensities are counted


@dataclass(frozen=True, eq=False)
class Portrait:
    """What is shown of one case.

    Attributes:
        tiles: images as data URIs, the scan first and then the features of each store; None for what is not kept, or
            is damaged.
        intensities: share of the voxels in each of the `BINS`, of some slices; None without a scan.
        window: values of the file that became 0 and 1, of several windows their means; None if they are not known.
        troubles: by store, what is damaged.
    """

    tiles: tuple[str | None, ...]
    intensities: NDArray[np.float64] | None
    window: tuple[float, float] | None
    troubles: dict[str, str]


def portrait(case_id: str, stores: Sequence[Store], colours: Sequence[Colours | None]) -> Portrait:
    """Look at one case in several stores.

    Args:
        case_id: of a case.
        stores: that hold it, or not.
        colours: of each store, None where there are none.
    """
    scan, intensities, window, troubles = None, None, None, dict[str, str]()
    features: list[str | None] = [None] * len(stores)
    for number, (store, basis) in enumerate(zip(stores, colours, strict=True)):
        if case_id not in store:
            continue
        with _noting(troubles, store.name):
            case = store[case_id]
            if window is None and case.attributes.get("windows"):
                window = tuple(np.mean(case.attributes["windows"], axis=0).tolist())
            if scan is None and "scan" in case.saved:
                scan, intensities = _scan_tile(case), _intensities(case)
            if basis is not None:
                features[number] = _colour_tile(case, basis)
    return Portrait((scan, *features), intensities, window, troubles)


@contextmanager
def _noting(troubles: dict[str, str], store: str) -> Iterator[None]:
    """Keep what is wrong with a store's case, so that the others are shown. A network that fails stops everything."""
    try:
        yield
    except RemoteError:
        raise
    except (OSError, ValueError, RuntimeError, LookupError, TypeError) as error:
        troubles[store] = str(error)


def _plane(case: Case) -> tuple[View, int]:
    """The plane of the slices, and the middle one; where nothing is in that, of some others the one that shows most."""
    depth = case.scan_shape[0]
    shown = depth // 2
    if "scan" in case.saved and not np.ptp(_slice(case, shown)):
        shown = max(evenly_spaced(range(depth), 2 * _SLICES), key=lambda voxel: float(np.std(_slice(case, voxel))))
    return views(case.scan_affine)["HW"], shown


def _slice(case: Case, voxel: int) -> NDArray[np.float32]:
    return scan_of(case, (voxel, slice(None), slice(None))).astype(np.float32)


def _scan_tile(case: Case) -> str:
    view, voxel = _plane(case)
    grey = np.round(255 * np.clip(case.look.scan_picture(view, voxel), 0, 1)).astype(np.uint8)
    return _thumbnail(np.repeat(grey[..., None], 3, axis=2), view.extent(case.scan_shape))


def _colour_tile(case: Case, colours: Colours) -> str:
    view, voxel = _plane(case)
    chosen = layer_of(case, colours.about["layer"])
    grid = grid_of(case, chosen)
    d = grid.cell_at((voxel, 0, 0))[0]
    features = features_of(chosen, range(d, d + 1))
    flat = replace(grid, cells=(1, *grid.cells[1:]))  # one slice of cells speaks for the voxels of this one
    maps = np.concatenate([colours.project(features)[:3], colours.foreground_of(features)[None]])
    planes = np.stack([flat.upsample(each, 0, 0) for each in maps])
    rgb = colours.rgb(planes[:-1]) * (planes[-1] > 0)[..., None]
    return _thumbnail(view.picture(rgb, 0), view.extent(case.scan_shape))


def _thumbnail(picture: NDArray[np.uint8], extent: tuple[float, float]) -> str:
    """A picture (rows, columns, 3) in its true proportions, as small as it is shown."""
    from imagecodecs import webp_encode
    from skimage.transform import resize

    shape = [max(1, round(_SIDE * mm / max(extent))) for mm in extent]
    small: NDArray[Any] = resize(picture / 255, shape, order=1, anti_aliasing=True)
    content = webp_encode(np.ascontiguousarray(np.round(255 * small).astype(np.uint8)), level=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(content).decode()


def _intensities(case: Case) -> NDArray[np.float64]:
    values = np.stack([_slice(case, voxel) for voxel in evenly_spaced(range(case.scan_shape[0]), _SLICES)])
    counts, _ = np.histogram(np.clip(values, 0, 1), BINS, (0, 1))
    return counts / values.size

"""Fit colours on a sample of the cells of stores, a few slices of one case in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, StoreError, VolumeError
from featlift.pictures.colours import Colours, meaning_of
from featlift.sample import evenly_spaced
from featlift.store.features import features_of, grid_of, labels_of, layer_of, scan_of
from featlift.store.layout import differing_fields
from featlift.store.principal import Covariance
from featlift.store.reading import Store
from featlift.volumes.reading import read_mask
from featlift.volumes.source import MaskFile

Foreground = Literal["auto", "mask", "none"]

#: Values of which a sample consists, in float32: 64 MB.
_SAMPLED = 2**24
_SAMPLED_CASES = 64
_SAMPLED_SLICES = 512  # of all cases, but a few of each
_FEWEST_SLICES = 8
_FEWEST_CELLS = 16

#: Robust scaling: the percentiles of a component that are shown as dark and as bright.
_DARK, _BRIGHT = 1.0, 99.0

#: Otsu's share of the variance that two classes explain: 0.64 for one normal cloud, 0.75 for an even spread, 1 for
#: two points. Below it there is no background to be told apart, as in crops.
_TWO_CLASSES = 0.78


def fit_colours(
    stores: Sequence[Store],
    cases: Sequence[str] | None = None,
    layer: int | None = None,
    foreground: Foreground = "auto",
    masks: Mapping[str, MaskFile] | None = None,
    components: int = 3,
) -> Colours:
    """One basis for all the cases of all the stores, so that a colour means the same everywhere.

    The principal components of the foreground's cells. The foreground is what masks label; or else what the first
    component of all cells tells from the background by Otsu's threshold, on its brighter side; where that component is
    about something else, what is brighter than Otsu's threshold in the scan, as far as features can tell; where there
    are no two classes either, as in crops without air, everything.

    Cases that are damaged, or whose mask is, are left out.

    Args:
        stores: with dense features of one network, such as its modes.
        cases: ids; None takes all. Of more than 64 an evenly spaced sample is used.
        layer: absolute index; None takes the deepest.
        foreground: ``auto``, ``mask`` or ``none``.
        masks: by case id, for ``mask``.
        components: K.

    Raises:
        OptionError: a case or a layer that is not there, stores of different networks, masks that are missing.
        StoreError: features are not kept, or those of every case are damaged.
        VolumeError: every mask is damaged, empty, or of another place.
    """
    if foreground not in get_args(Foreground):
        raise OptionError(f"foreground {foreground!r}: give {', '.join(get_args(Foreground))}")
    if foreground == "mask" and not masks:
        raise OptionError("a foreground of masks needs masks: give --masks")
    chosen = _cases(stores, cases)
    features, bright = _sample(chosen, layer, masks if foreground == "mask" else None)
    direction, threshold = None, 0.0
    how: str = "none" if foreground == "auto" else foreground
    if foreground == "auto" and bright is not None and (found := _background(features, bright)) is not None:
        is_foreground = features @ found[1] > found[2]
        if is_foreground.sum() > max(components, _FEWEST_CELLS):  # else a mere crumb
            how, direction, threshold = found
            features = features[is_foreground]
    cells, channels = features.shape
    if components > channels or cells <= components:
        raise OptionError(f"{components} components of {cells} cells with {channels} channels: ask for fewer of them")
    covariance = Covariance(features.shape[1])
    covariance.add(features)
    projection = covariance.principal(components)
    projected = (features - projection.mean) @ projection.components.T
    low, high = np.percentile(projected, [_DARK, _BRIGHT], axis=0).astype(np.float32)
    about = {
        "meaning": meaning_of(stores[0]),
        "layer": layer if layer is not None else max(stores[0].recipe["layers"]),
        "stores": [store.name for store in stores],
        "cases": len(chosen),
        "cells": len(features),
        "foreground": how,
    }
    return Colours(projection, low, high, direction, threshold, about)


def _cases(stores: Sequence[Store], cases: Sequence[str] | None) -> list[tuple[Store, str]]:
    """The cases of each store, after making sure that their features may stand side by side."""
    first = stores[0]
    for store in stores:
        store.require("dense")
    for store in stores[1:]:
        if differing := differing_fields(meaning_of(first), meaning_of(store), first.name, store.name):
            raise OptionError(f"{first.path} and {store.path} share no colours: they differ in {'; '.join(differing)}")
    for store in stores:
        store.require_cases(cases or ())
    chosen = [(store, case_id) for store in stores for case_id in (cases or store)]
    if not chosen:
        raise OptionError(f"{first.path} holds no cases")
    return chosen


def _sample(
    chosen: Sequence[tuple[Store, str]], layer: int | None, masks: Mapping[str, MaskFile] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Features ``(N, C)`` of cells, and the scan's intensity at each if the stores keep scans."""
    used = evenly_spaced(chosen, _SAMPLED_CASES)
    parts = []
    for store, case_id in used:
        try:
            parts.append(_cells_of(store, case_id, layer, masks, len(used)))
        except (StoreError, VolumeError) as error:  # who draws the case will tell
            failure = error
    if not parts:
        raise failure
    features = np.concatenate([features for features, _ in parts])
    bright = [intensities for _, intensities in parts if intensities is not None]
    return features, np.concatenate(bright) if len(bright) == len(parts) else None


def _cells_of(
    store: Store, case_id: str, layer: int | None, masks: Mapping[str, MaskFile] | None, shared_by: int
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """A case's part of the sample: cells evenly spaced in slices evenly spaced."""
    case = store[case_id]
    chosen = layer_of(case, layer)
    grid = grid_of(case, chosen)
    wanted = np.ones(grid.cells, bool)
    if masks is not None:
        if case_id not in masks:
            raise OptionError(f"no mask of {case_id}: give one for each case, or another --foreground")
        wanted = grid.labels_on_cells(labels_of(case, read_mask(masks[case_id]))) != 0
    slices = evenly_spaced(
        np.flatnonzero(wanted.any(axis=(1, 2))).tolist(), max(_FEWEST_SLICES, _SAMPLED_SLICES // shared_by)
    )
    most = max(_FEWEST_CELLS, _SAMPLED // chosen.dense.shape[0] // shared_by)
    depth, rows, columns = grid.voxels_of_cells()
    features, bright = [], []
    for d in slices:
        places = evenly_spaced(np.argwhere(wanted[d]).tolist(), -(-most // len(slices)))
        h, w = np.transpose(places)
        features.append(features_of(chosen, range(d, d + 1))[:, 0, h, w].T)
        if "scan" in case.saved:
            voxels = scan_of(case, (int(depth[d]), slice(None), slice(None)))[..., rows[h], columns[w]]
            bright.append(voxels.reshape(-1, len(h)).astype(np.float32).mean(axis=0))
    channels = chosen.dense.shape[0]
    return np.concatenate([np.empty((0, channels), np.float32), *features]), np.concatenate(bright) if bright else None


def _background(
    features: NDArray[np.float32], bright: NDArray[np.float32]
) -> tuple[str, NDArray[np.float32], float] | None:
    """What tells the foreground, its direction and threshold; None where nothing does, as in crops without air."""
    covariance = Covariance(features.shape[1])
    covariance.add(features)
    direction = covariance.principal(1).components[0]
    if (is_above := _two_classes(features @ direction)) is not None:
        is_bright = is_above if bright[is_above].mean() > bright[~is_above].mean() else ~is_above
        how = "component"
    elif (is_above := _two_classes(bright)) is not None:
        is_bright, how = is_above, "scan"
        direction = _direction_to(is_bright, features)
    else:
        return None
    values = features @ direction
    high, low = values[is_bright].mean(), values[~is_bright].mean()
    sign = 1 if high > low else -1
    # the same as Otsu's threshold where values lie close, and in the middle of a gap
    return how, np.float32(sign) * direction, sign * float(high + low) / 2


def _two_classes(values: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Which values are above Otsu's threshold, or None if they are no two classes."""
    from skimage.filters import threshold_otsu

    above: NDArray[np.bool_] = values > threshold_otsu(values)
    share = above.mean()
    if share in (0, 1):
        return None
    apart = values[above].mean() - values[~above].mean()
    return above if share * (1 - share) * apart**2 >= _TWO_CLASSES * values.var() else None


def _direction_to(is_foreground: NDArray[np.bool_], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The direction in which features say best what is foreground: linear regression."""
    from sklearn.linear_model import Ridge

    coefficients: NDArray[np.float32] = Ridge().fit(features, is_foreground.astype(np.float32)).coef_
    return coefficients.astype(np.float32)

"""What a page shows: stores side by side, their cases, masks and colours, as JSON."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.drawing.anatomy import views
from featlift.pictures.colours import Colours
from featlift.pictures.instances import FOUND, TRUE, InstanceFiles, Segmented
from featlift.pictures.overlay import overlay_of
from featlift.pictures.painting import Painting
from featlift.pictures.viewer.placing import Shown
from featlift.pictures.viewer.reduction import reduce
from featlift.store.case import Case
from featlift.store.features import labels_of, layer_of, scan_of, slabs_of
from featlift.store.reading import Store
from featlift.version import __version__
from featlift.volumes.reading import read_mask
from featlift.volumes.source import MaskFile

#: Channels that features are reduced to for the page.
CHANNELS = 64


@dataclass(frozen=True, eq=False)
class Scene:
    """Cases of one or several stores, to be looked at in a browser.

    Attributes:
        stores: side by side, such as the modes of one network; their scans are the same.
        cases: ids, in every store.
        colours: of features, for all of them.
        masks: by case id, for those that have one; see `featlift.find_masks`.
        channels: K, that features are reduced to.
        layer: absolute index; None takes the deepest.
        overlays: files of maps, the same for every case, by case id and then by name; see `overlay_of`.
        label_names: what labels of masks are called.
        instances: masks of objects by case id, for those that have them.
    """

    stores: Sequence[Store]
    cases: Sequence[str]
    colours: Colours
    masks: Mapping[str, MaskFile] = field(default_factory=dict)
    channels: int = CHANNELS
    layer: int | None = None
    overlays: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)
    instances: Mapping[str, InstanceFiles] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for store in self.stores:
            store.require("dense")
            self.colours.check(store, self.layer)
            store.require_cases(self.cases)

    def manifest(self, cases: Sequence[str] | None = None) -> dict[str, Any]:
        """What the page knows before it opens a case: names.

        Args:
            cases: those that it has, by default all.
        """
        has_truth = any(files.truth is not None for files in self.instances.values())
        return {
            "version": __version__,
            "cases": list(self.cases if cases is None else cases),
            "maps": list(next(iter(self.overlays.values()), ())),
            "instances": [FOUND, TRUE][: bool(self.instances) + has_truth],
            "coloursKept": self.colours.variance_kept,
            "stores": [
                {"name": store.name.removesuffix(".zarr"), "layer": self.colours.about["layer"]}
                | {name: store.recipe.get(name) for name in ("model", "mode")}
                for store in self.stores
            ],
        }

    def case(self, case_id: str) -> dict[str, Any]:
        """Everything of one case: scan, labels, objects, and of every store reduced features and colours.

        Raises:
            VolumeError: a mask or a map of it is damaged, empty, or of another place.
            StoreError: its features are damaged.
            OptionError: the stores hold it on grids that are turned against each other.
        """
        held = [store[case_id] for store in self.stores]
        base = held[0]
        shown = Shown.of(base)
        values, labels = self._labels(base, shown)
        return {
            "id": case_id,
            "shape": shown.shape,
            "factors": shown.factors,
            "scanShape": base.scan_shape,
            "affine": None if shown.affine is None else shown.affine.tolist(),
            "views": [asdict(view) for view in views(shown.affine).values()],
            "scan": _packed(shown.averaged(scan_of(base))) if "scan" in base.saved else None,
            "labels": None if labels is None else _packed(labels),
            "labelValues": values,
            "labelNames": [self.label_names.get(value, "") for value in values],
            "maps": [_map(base, shown, path) for path in self.overlays.get(case_id, {}).values()],
            **_objects(base, shown, self.instances.get(case_id)),
            "stores": [self._features(case, shown, base) for case in held],
        }

    def _labels(self, base: Case, shown: Shown) -> tuple[list[int], NDArray[np.uint8] | None]:
        """The values that a mask has, and at each voxel which of them it is, from 1; 0 for none."""
        if base.id not in self.masks:
            return [], None
        labels = shown.nearest(labels_of(base, read_mask(self.masks[base.id])))
        values = np.unique(labels[labels != 0])
        if not len(values):  # too small for the voxels that are shown
            return [], None
        return values.tolist(), np.where(labels != 0, np.searchsorted(values, labels) + 1, 0).astype(np.uint8)

    def _features(self, case: Case, shown: Shown, base: Case) -> dict[str, Any]:
        layer = layer_of(case, self.layer)
        grid = shown.cells(case, layer, base)
        painting = Painting.of(case, self.colours, self.layer)
        rgb = self.colours.rgb(painting.components)
        colours = np.concatenate([rgb, _centred(painting.foreground)[..., None]], axis=-1)
        reduced = reduce(lambda: slabs_of(layer), self.channels)
        return {
            "cells": grid.cells,
            "stride": grid.stride,
            "offset": grid.offset,
            "colours": _packed(colours),
            "features": _packed(reduced.features.values),
            "scale": reduced.features.scale.tolist(),
            "low": reduced.features.offset.tolist(),
            "channels": reduced.channels,
            "varianceKept": reduced.variance_kept,
            "meanError": reduced.error[0],
            "largestError": reduced.error[1],
        }


def _objects(base: Case, shown: Shown, files: InstanceFiles | None) -> dict[str, Any]:
    """Of each mask of objects numbers at the voxels that are shown, and by number id and colour; errors; a caption."""
    if files is None:
        return {"instances": [], "marked": [], "counted": ""}
    segmented = Segmented.of(base, files)
    maps = list(segmented.maps.values())
    return {
        "instances": [
            {
                "numbers": _packed(shown.nearest(each.numbers)),
                "ids": ["none", *map(str, each.ids.tolist())],  # as text: numbers of JavaScript are float64
                "colours": _packed(each.colours),
            }
            for each in maps
        ],
        "marked": [
            {
                "kind": each.kind,
                "colour": each.colour,
                "width": each.width,
                "instances": maps.index(each.map),
                "numbers": each.numbers.tolist(),
            }
            for each in segmented.marked
        ],
        "counted": str(segmented),
    }


def _map(base: Case, shown: Shown, path: Path) -> dict[str, Any]:
    """A map at the voxels that are shown: 0 to 254 from its lowest to its highest value, 255 where there is none."""
    values = shown.nearest(overlay_of(base, path))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    steps = np.rint((values - low) * (254 / max(high - low, 1e-12)))
    return {"low": low, "high": high, "values": _packed(np.where(np.isnan(steps), 255, steps).astype(np.uint8))}


def _centred(foreground: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Eight bits of what is above 0 in the foreground and below it in the background: 0 becomes 128."""
    largest = max(float(np.abs(foreground).max()), 1e-8)
    centred: NDArray[np.uint8] = np.rint(128 + 127 * foreground / largest).astype(np.uint8)
    return centred


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON: base64 of zlib."""
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 6)).decode()
    return {"type": array.dtype.name, "shape": array.shape, "data": data}

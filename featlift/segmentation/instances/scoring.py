"""Segmentations into objects against true ones, case by case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featlift.errors import FeatliftError, InputError, OptionError, VolumeError
from featlift.metrics.instances import (
    Overlaps,
    adapted_rand,
    adapted_rand_of_cremi,
    near_borders,
    overlaps,
    variation_of_information,
)
from featlift.progress import Progress, counted
from featlift.volumes.discovery import find_masks, find_scans
from featlift.volumes.discovery.inputs import is_searched
from featlift.volumes.discovery.series import source_of
from featlift.volumes.formats import suffix_of
from featlift.volumes.instances import Instances, instances_in
from featlift.volumes.opening import Reading
from featlift.volumes.scan import Selection
from featlift.volumes.source import Source, place_and_key

Metric = Literal["voi", "arand"]
Convention = Literal["skimage", "cremi"]

#: Ids of the truth that do not count: 0 is no object; in CREMI's files it is one, and 2^64 - 1 is none.
IGNORED: Mapping[Convention, tuple[int, ...]] = {"skimage": (0,), "cremi": (2**64 - 1,)}

_SAME_RESOLUTION = 1e-3  # relative


@dataclass(frozen=True)
class Scoring:
    """How segmentations into objects are scored.

    Attributes:
        metrics: which scores.
        convention: ``skimage``, or ``cremi``: the adapted Rand error and the ids that do not count as CREMI has them.
        ignored: ids of the truth that do not count; none takes those of the convention, see `IGNORED`.
        border: nanometres; voxels so near to a border of the truth in their section do not count. 0 leaves none out.
        resolution: nanometres along (d, h, w), for files that do not say.
    """

    metrics: tuple[Metric, ...] = ("voi", "arand")
    convention: Convention = "skimage"
    ignored: tuple[int, ...] = ()
    border: float = 0.0
    resolution: tuple[float, ...] = ()

    @property
    def left_out(self) -> tuple[int, ...]:
        """Ids of the truth that do not count."""
        return self.ignored or IGNORED[self.convention]


@dataclass(frozen=True)
class InstanceScore:
    """The scores of one case.

    Attributes:
        id: case id.
        values: by name: ``voi`` (bits) with ``voi_split`` and ``voi_merge``, ``arand`` with ``arand_precision`` and
            ``arand_recall``; None where an error has no value, as of objects of one voxel.
        objects: ids of the truth that count.
        segments: ids of the segmentation where they lie.
        mask_sha256: of the truth's file.
    """

    id: str
    values: dict[str, float | None]
    objects: int
    segments: int
    mask_sha256: str | None = None


def pairs_of(
    predictions: str | Path, masks: str | Path, pattern: str | None = None
) -> tuple[dict[str, tuple[Source, Source]], list[str]]:
    """Segmentations with their truth, and the ids of those that have none.

    Args:
        predictions: a file, ``file.h5::name``, or a folder of them.
        masks: the truth of the only segmentation, whose name the case then has; or a folder of masks, or a CSV.
        pattern: files of the folder that are masks.

    Raises:
        InputError: nothing there, no truth for any, or one truth for several segmentations.
    """
    every_file = Selection(glob=["*"])
    found = {scan.id: scan.sources[0] for scan in find_scans([predictions], every_file).scans}
    if not is_searched(masks) and not str(masks).lower().endswith(".csv"):
        (truth, *others) = find_scans([masks], every_file).scans
        if others or len(found) > 1:
            raise InputError(f"{len(found)} segmentations and {1 + len(others)} masks: give one of each, or folders")
        return {name_of_file(masks): (next(iter(found.values())), truth.sources[0])}, []
    truths = find_masks(found, masks, pattern)
    if not truths:
        raise InputError(f"{masks}: no mask for {next(iter(found))}, nor for any other of {len(found)} segmentations")
    pairs = {
        case_id: (found[case_id], truth if isinstance(truth, Source) else source_of(truth))
        for case_id, truth in truths.items()
    }
    return pairs, [case_id for case_id in found if case_id not in truths]


def name_of_file(place: str | Path) -> str:
    """The name of a file or folder, without its suffix and the name of the array in it, which many files share."""
    path, _ = place_and_key(place)
    return path.name[: len(path.name) - len(suffix_of(path) or "")]


def score_pairs(
    pairs: Mapping[str, tuple[Source, Source]], how: Scoring, progress: Progress | None = None
) -> list[InstanceScore]:
    """Score every case.

    Args:
        pairs: see `pairs_of`.
        how: settings.
        progress: called with what is being done, the cases that are done and their number.

    Raises:
        VolumeError: a file is damaged or holds no ids, or a pair has no score, see `score_instances`.
        OptionError: a border without a resolution.
        InputError: a file is missing.
    """
    found = []
    for case_id in counted(list(pairs), "scoring", progress):
        prediction, truth = pairs[case_id]
        try:
            found.append(
                score_instances(case_id, instances_in(prediction, Reading()), instances_in(truth, Reading()), how)
            )
        except FeatliftError as error:
            raise type(error)(f"{case_id}: {error}") from error
    return found


def score_instances(case_id: str, prediction: Instances, truth: Instances, how: Scoring) -> InstanceScore:
    """Score one case, voxel on voxel by their index.

    Args:
        case_id: of the case.
        prediction: segments.
        truth: objects.
        how: settings.

    Raises:
        VolumeError: other shapes or resolutions; a truth of no object, or of one.
        OptionError: a border without a resolution.
    """
    _check_resolutions(prediction, truth)
    near = near_borders(truth.array, _in_voxels(how, truth.resolution or prediction.resolution)) if how.border else None
    found = overlaps(truth.array, prediction.array, how.left_out, near)
    if len(found.objects) == 1:
        raise VolumeError(
            f"one object in the truth (id {found.objects[0]}), and scores of instances are of several: give each an id "
            "of its own, or score a mask of one label by `featlift segment score STORE --predictions`"
        )
    values = {name: value for metric in how.metrics for name, value in _values(found, metric, how.convention).items()}
    known = {name: value if math.isfinite(value) else None for name, value in values.items()}
    sha256 = None if truth.source is None else truth.source["sha256"]
    return InstanceScore(case_id, known, len(found.objects), len(found.segments), sha256)


def _values(found: Overlaps, metric: Metric, convention: Convention) -> dict[str, float]:
    if metric == "voi":
        split, merge = variation_of_information(found)
        return {"voi": split + merge, "voi_split": split, "voi_merge": merge}
    rand = adapted_rand(found) if convention == "skimage" else adapted_rand_of_cremi(found)
    return {"arand": rand.error, "arand_precision": rand.precision, "arand_recall": rand.recall}


def _check_resolutions(prediction: Instances, truth: Instances) -> None:
    one, other = prediction.resolution, truth.resolution
    if one and other and not np.allclose(one, other, rtol=_SAME_RESOLUTION, atol=0):
        raise VolumeError(f"a segmentation of {_times(one)} nm voxels, a truth of {_times(other)} nm")


def _in_voxels(how: Scoring, stated: Sequence[float] | None) -> float:
    """The border threshold in voxels of a section."""
    resolution = how.resolution or stated
    if not resolution:
        raise OptionError(
            f"--border {how.border:g} is in nanometres, and no file says its own: give --resolution d,h,w"
        )
    if not math.isclose(resolution[1], resolution[2], rel_tol=_SAME_RESOLUTION):
        raise OptionError(f"--border {how.border:g}: voxels of {_times(resolution)} nm are not square in the section")
    return how.border / resolution[1]


def _times(values: Sequence[float] | NDArray[np.float64]) -> str:
    return " x ".join(f"{value:g}" for value in values)

"""Registered pairs against masks and landmarks of both scans, and the fields by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featlift.errors import InputError, OptionError
from featlift.metrics.fields import regularity
from featlift.metrics.scores import dice
from featlift.metrics.surface import surface_distances
from featlift.progress import Progress, counted
from featlift.registration.field import DisplacementField
from featlift.registration.files import FIELD, runs_in
from featlift.registration.landmarks import landmark_errors
from featlift.registration.pair_list import CasePair, of_pair
from featlift.registration.plan import SHARED
from featlift.registration.truth import Truth, find_truth, labels_in_common, read_truth
from featlift.volumes.grid import inside
from featlift.volumes.volume import Volume, spacing_of


@dataclass(frozen=True)
class LabelScore:
    """How well one label of the moving scan comes to lie on that of the fixed one.

    Attributes:
        dice: of the two.
        hd95: in mm, as MONAI defines it; None where nothing of the label is left.
        hd95_pooled: as MedPy defines it.
        asd: average symmetric surface distance in mm.
    """

    dice: float
    hd95: float | None
    hd95_pooled: float | None
    asd: float | None


@dataclass(frozen=True)
class PairScore:
    """The scores of a pair.

    Attributes:
        id: ``fixed--moving``.
        labels: those that both masks hold.
        tre: mean target registration error of the landmarks in mm; None without any.
        sdlogj: of the field.
        folds: share of its voxels.
        seconds: that registering took; None of scans as they lay before.
        peak_mb: most resident memory of the process while it did.
        truth_sha256: of the files of masks and landmarks.
    """

    id: str
    labels: dict[int, LabelScore]
    tre: float | None
    sdlogj: float
    folds: float
    seconds: float | None
    peak_mb: float | None
    truth_sha256: str


@dataclass(frozen=True)
class ScoredPairs:
    """The scores of a folder.

    Attributes:
        name: of the folder.
        plan: what all pairs share, see `featlift.registration.plan.SHARED`.
        protocol: what they were scored by.
        after: of each pair.
        before: of the scans as they lay, if that was asked for.
        left_out: pairs without a mask or landmarks of both scans.
        unfinished: pairs that are not done.
    """

    name: str
    plan: dict[str, Any]
    protocol: dict[str, Any]
    after: list[PairScore] = field(default_factory=list)
    before: list[PairScore] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


def score_pairs(
    folder: str | Path,
    masks: str | Path | None = None,
    mask_pattern: str | None = None,
    landmarks: str | Path | None = None,
    labels: Sequence[int] = (),
    *,
    moving_masks: str | Path | None = None,
    ras: bool = False,
    unregistered: bool = False,
    progress: Progress | None = None,
) -> ScoredPairs:
    """Score every pair of a folder that is done.

    Args:
        folder: what `register_pairs` or `register_files` wrote.
        masks: of the cases, see `featlift.find_masks`.
        mask_pattern: files of the folder that are masks.
        landmarks: folder of a CSV for each case, see `read_landmarks`.
        labels: to score; none takes all that both masks of a pair hold.
        moving_masks: those of the moving scans, where they lie elsewhere.
        ras: landmarks are in RAS.
        unregistered: score the scans as they lay before, too.
        progress: told of the pairs.

    Raises:
        InputError: no pair is done there; no masks or landmarks.
        OptionError: pairs of different plans; neither masks nor landmarks.
        VolumeError: a field, mask or landmark that cannot be used; masks of a pair without a label in common.
        StoreError: a damaged ``run.json``.
    """
    folder = Path(folder)
    places = runs_in(folder)
    if not places:
        raise InputError(f"{folder}: no pair is done here; `featlift register run` registers some")
    plan = _plan_of(folder, places.values())
    pairs = {CasePair(run["fixed"]["id"], run["moving"]["id"]): place for place, run in places.items()}
    ends = {pair.id: (pair.fixed, pair.moving) for pair in pairs}
    truths = find_truth(ends, masks, mask_pattern, landmarks, moving_masks)
    common = labels_in_common(truths, labels)
    found = ScoredPairs(
        folder.absolute().name,
        plan,
        {"name": "score", "labels": list(labels) or None, "landmarks": landmarks is not None},
        left_out=[pair_id for pair_id in ends if pair_id not in truths],
        unfinished=sorted(path.name for path in folder.glob("*--*") if path.is_dir() and path not in places),
    )
    place_of = {pair.id: place for pair, place in pairs.items()}
    for pair_id in counted(list(truths), "scoring", progress):
        with of_pair(pair_id):
            truth = read_truth(truths[pair_id], common[pair_id], ras)
            found_field = DisplacementField.read(place_of[pair_id] / FIELD)
            found.after.append(score_pair(pair_id, found_field, truth, places[place_of[pair_id]]))
            if unregistered:
                as_they_lay = DisplacementField(np.zeros_like(found_field.vectors), found_field.affine)
                found.before.append(score_pair(pair_id, as_they_lay, truth))
    return found


def score_pair(pair_id: str, found: DisplacementField, truth: Truth, run: Mapping[str, Any] | None = None) -> PairScore:
    """The scores of a field.

    Args:
        pair_id: of the pair.
        found: its field.
        truth: its masks and landmarks.
        run: its ``run.json``, for time and memory; None for a field that nothing was spent on.

    Raises:
        VolumeError: masks or landmarks lie elsewhere than the field.
    """
    run = run or {}
    sd, folds = regularity(found.in_voxels)
    peak = run.get("peak_bytes")
    return PairScore(
        pair_id,
        score_labels(found, truth.masks, truth.labels) if truth.masks else {},
        float(landmark_errors(found, *truth.landmarks).mean()) if truth.landmarks else None,
        sd,
        folds,
        sum(run["seconds"].values()) if run else None,
        peak / 1e6 if peak else None,
        truth.sha256,
    )


def score_labels(found: DisplacementField, masks: Sequence[Volume], labels: Sequence[int]) -> dict[int, LabelScore]:
    """Labels of the moving scan, brought onto the mask of the fixed one by nearest neighbour, against it.

    Args:
        found: the field.
        masks: ``(D, H, W)`` of the fixed scan, whose voxels are scored on, and of the moving one.
        labels: that both hold.

    Raises:
        VolumeError: see `DisplacementField.warp`.
    """
    fixed, moving = masks
    assert fixed.affine is not None
    assert moving.affine is not None
    depth, height, width = fixed.array.shape
    shape, lying = (depth, height, width), moving.array.shape
    if not found.vectors.any() and not inside((lying[0], lying[1], lying[2]), moving.affine, shape, fixed.affine).any():
        warped = np.zeros(shape, np.float32)  # scans that lie apart before they are registered
    else:
        warped = found.warp(moving, shape, fixed.affine, order=0)
    spacing = spacing_of(fixed.affine)
    scores = {}
    for label in labels:
        there, truth = warped == label, fixed.array == label
        apart = surface_distances(there, truth, spacing)
        values = (apart.hd95, apart.hd95_pooled, apart.asd)
        scores[label] = LabelScore(dice(there, truth), *(value if math.isfinite(value) else None for value in values))
    return scores


def _plan_of(folder: Path, runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all pairs share."""
    first, *others = ({name: run.get(name) for name in SHARED} for run in runs)
    if any(other != first for other in others):
        raise OptionError(f"{folder} holds pairs of different plans: score one at a time")
    return first

"""Predictions against masks: how much they overlap, how far their surfaces are apart, how often they fail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import InputError, OptionError, StoreError, VolumeError
from featlift.metrics.scores import dice
from featlift.metrics.surface import surface_distances
from featlift.names import file_names
from featlift.progress import Progress, counted
from featlift.segmentation.inference.prediction import NOTES
from featlift.store.features import labels_of
from featlift.store.reading import Store
from featlift.volumes.grid import Shape, inside
from featlift.volumes.masks import labels_on
from featlift.volumes.reading import read, read_mask
from featlift.volumes.source import MaskFile
from featlift.volumes.volume import Affine, Volume, spacing_of

FAILED_BELOW = 0.5  # Dice


@dataclass(frozen=True)
class LabelScore:
    """How well one label of one case was found.

    Attributes:
        dice: 2 |P ∩ M| / (|P| + |M|).
        volume_similarity: 1 - ||P| - |M|| / (|P| + |M|) (Taha and Hanbury 2015).
        failure_rate: 1 where Dice is below 0.5, else 0.
        hd95: in mm; None without a predicted voxel or a known spacing.
        asd: likewise.
    """

    dice: float
    volume_similarity: float
    failure_rate: float
    hd95: float | None
    asd: float | None


@dataclass(frozen=True)
class CaseScore:
    """The scores of one case.

    Attributes:
        id: case id.
        labels: for each label that its mask holds, background aside.
        mask_sha256: of the mask's file.
    """

    id: str
    labels: dict[int, LabelScore] = field(default_factory=dict)
    mask_sha256: str | None = None


def read_notes(predictions: str | Path) -> dict[str, Any]:
    """What `predict` wrote beside its files.

    Raises:
        InputError: there is no such folder, or it holds no predictions.
        StoreError: it is damaged.
        OptionError: it holds objects, which have other scores.
    """
    path = Path(predictions, NOTES)
    try:
        notes = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{predictions}: no {NOTES} here; `featlift segment predict` makes predictions") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable ({error}); run `featlift segment predict` again") from error
    if (
        not isinstance(notes, dict)
        or not {"head", "plan", "labels", "cases", "seen", "trained", "recipe"} <= notes.keys()
    ):
        raise StoreError(f"{path}: not written by `featlift segment predict`")
    if "affinities" in notes["plan"]:
        raise OptionError(
            f"{predictions} holds objects, whose ids are arbitrary: "
            f"`featlift segment score {predictions} --masks TRUTH --metric voi,arand`"
        )
    return notes


def cases_to_score(notes: Mapping[str, Any], masks: Mapping[str, MaskFile], ids: Sequence[str] = ()) -> list[str]:
    """The predicted cases that have a mask and that the head had not seen.

    Args:
        notes: see `read_notes`.
        masks: the path of the mask of each case, by its id.
        ids: those to keep; none keeps all.

    Raises:
        OptionError: none is left.
    """
    wanted = set(ids) or set(notes["cases"])
    unseen = [case_id for case_id in notes["cases"] if case_id in wanted and case_id not in set(notes["seen"])]
    if not unseen:
        raise OptionError(
            "the head was trained on all of these cases, so their scores would say nothing: predict others"
        )
    found = [case_id for case_id in unseen if case_id in masks]
    if not found:
        raise OptionError(f"{unseen[0]} has no mask, nor has any other of {len(unseen)} predicted cases")
    return found


def score(
    store: Store,
    predictions: str | Path,
    masks: Mapping[str, MaskFile],
    ids: Sequence[str],
    progress: Progress | None = None,
) -> list[CaseScore]:
    """Compare predictions with masks, on the masks' own voxels; those beyond the stored scan do not count.

    Args:
        store: of the cases.
        predictions: folder of `predict`.
        masks: the path of the mask of each case, by its id.
        ids: of the cases, see `cases_to_score`.
        progress: called with what is being done, the cases that are done and their number.

    Raises:
        VolumeError: a file is damaged, a mask empty, of another place, or with a label that the head does not know.
        InputError: a prediction is missing.
    """
    notes = read_notes(predictions)
    names = file_names([*store, *notes["cases"]])
    known = [int(label) for label in notes["labels"]]
    found = []
    for case_id in counted(ids, "scoring", progress):
        try:
            prediction = read(_prediction_of(case_id, Path(predictions), names))
            mask = read_mask(masks[case_id])
            labels_of(store[case_id], mask)  # is it a mask of this case at all?
            case = store[case_id]
            found.append(score_case(case_id, prediction, mask, known, case.scan_shape, case.scan_affine))
        except (VolumeError, FileNotFoundError) as error:
            raise type(error)(f"{case_id}: {error}") from error
    return found


def _prediction_of(case_id: str, folder: Path, names: Mapping[str, str]) -> Path:
    """Its file, which has its id if the store held no id that looks alike when it was made."""
    path = folder / f"{names[case_id]}.nii.gz"
    return path if path.exists() else folder / f"{case_id}.nii.gz"


def score_case(
    case_id: str, prediction: Volume, mask: Volume, known: Sequence[int], shape: Shape, affine: Affine | None
) -> CaseScore:
    """The scores of one case, on the voxels of its mask; those beyond the scan that was seen do not count.

    Args:
        case_id: of the case.
        prediction: labels.
        mask: the true ones.
        known: labels that were trained on.
        shape: (D, H, W) of the scan that was seen.
        affine: of it.

    Raises:
        VolumeError: the mask holds another label.
    """
    truth = mask.array.astype(np.int32)
    if unknown := sorted(set(np.unique(truth).tolist()) - set(known)):
        raise VolumeError(f"label {unknown[0]} of its mask was not trained on; {', '.join(map(str, known))} were")
    if mask.affine is not None and affine is not None:
        depth, height, width = truth.shape
        truth = np.where(inside(shape, affine, (depth, height, width), mask.affine), truth, 0)
    found = np.zeros_like(truth)
    if prediction.array.any():
        found = np.where(truth >= 0, labels_on(prediction, truth.shape, mask.affine), 0)
    spacing = None if mask.affine is None else spacing_of(mask.affine)
    labels = [label for label in np.unique(truth).tolist() if label]
    scores = {label: score_label(found == label, truth == label, spacing) for label in labels}
    return CaseScore(case_id, scores, None if mask.source is None else mask.source["sha256"])


def score_label(prediction: NDArray[np.bool_], mask: NDArray[np.bool_], spacing: Sequence[float] | None) -> LabelScore:
    """The scores of one label.

    Args:
        prediction: ``(D, H, W)``.
        mask: ``(D, H, W)``, not empty.
        spacing: (d, h, w) in mm, None where it is unknown.
    """
    overlap = dice(prediction, mask)
    sizes = int(prediction.sum()), int(mask.sum())
    similarity = 1 - abs(sizes[0] - sizes[1]) / sum(sizes)
    hd95 = asd = None
    if spacing is not None and sizes[0]:
        distances = surface_distances(prediction, mask, spacing)
        hd95, asd = distances.hd95, distances.asd
    return LabelScore(overlap, similarity, float(overlap < FAILED_BELOW), hd95, asd)

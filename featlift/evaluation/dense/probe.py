"""The dense probe: a linear classifier of frozen feature cells, trained on some cases and scored on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.evaluation.dense.cohort import LabelledCases, survey
from featlift.evaluation.dense.linear import LinearClassifier, fit_linear
from featlift.evaluation.dense.protocol import DenseProtocol
from featlift.evaluation.featdice.maps import write_maps
from featlift.evaluation.featdice.segmentation import Segmentation, segment_by_maps
from featlift.metrics.scores import dice
from featlift.metrics.surface import surface_distances
from featlift.names import file_names
from featlift.progress import Progress, counted
from featlift.store.reading import Store, open_store
from featlift.volumes.source import MaskFile


@dataclass(frozen=True)
class DenseScore:
    """How well one label of one case was found; distances in mm, None without a predicted voxel or a known spacing."""

    dice: float
    hd95: float | None
    asd: float | None


@dataclass(frozen=True)
class DenseScores:
    """The scores of one test case.

    Attributes:
        id: case id.
        labels: for each label that its mask holds, background aside, its score by every seed's classifier.
        mask_sha256: of the mask's file.
    """

    id: str
    labels: dict[int, list[DenseScore]] = field(default_factory=dict)
    mask_sha256: str | None = None


def dense_probe(
    store: Store | str | Path,
    masks: Mapping[str, MaskFile],
    splits: Mapping[str, str],
    protocol: DenseProtocol | None = None,
    seeds: Sequence[int] = (0,),
    save_maps: str | Path | None = None,
    progress: Progress | None = None,
) -> list[DenseScores]:
    """Train a linear classifier of cells on the cases of the split ``train``, segment those of ``test`` with it.

    Of the training cases at most ``protocol.cells`` cells are held in memory, of the others one case at a time. A test
    case's logits are upsampled trilinearly to the voxels of its stored scan, or of its mask, where the highest wins.

    Args:
        store: a store, or its path.
        masks: the path of the mask of each case, by its id; see `featlift.find_masks`.
        splits: the split of each case; those of other splits than ``train`` and ``test`` take no part.
        protocol: how to train; `DenseProtocol()` is the documented one.
        seeds: of the draws of cells; a classifier is trained from each.
        save_maps: a folder for the logits and predictions of the first seed as NIfTI, on the voxels that are scored.
        progress: called with what is being done, the cases that are done and their number.

    Raises:
        OptionError: a split without cases, a case without a mask, a label that only test cases have.
        VolumeError: a mask is damaged, empty, or of another place.
        StoreError: features are damaged.
    """
    store = store if isinstance(store, Store) else open_store(store)
    protocol = protocol or DenseProtocol()
    if not seeds:
        raise OptionError("no seeds: give at least one")
    cohort = survey(store, masks, splits, protocol, seeds, progress)
    classifiers = []
    for number, seed in enumerate(seeds):
        classifiers.append(_train(cohort, number, seed, protocol, progress))
        if progress is not None:
            progress("fitting", number + 1, len(seeds))
    folder = None if save_maps is None else Path(save_maps)
    names = file_names(store)
    return [
        _score_case(cohort, case_id, classifiers, folder, names[case_id])
        for case_id in counted(cohort.test, "scoring", progress)
    ]


def _train(
    cohort: LabelledCases, number: int, seed: int, protocol: DenseProtocol, progress: Progress | None
) -> LinearClassifier:
    draws = [draws[number] for draws in cohort.draws.values()]
    features = []
    for case_id, draw in zip(counted(list(cohort.draws), f"training, seed {seed}", progress), draws, strict=True):
        features.append(cohort.grids[case_id].sample(cohort.features(cohort.store[case_id]), draw.cells))
    labels = np.concatenate([draw.labels for draw in draws])
    weights = np.concatenate([draw.weights for draw in draws])
    if protocol.weighting == "labels":
        for label in np.unique(labels):
            weights[labels == label] *= len(weights) / weights[labels == label].sum()
    weights *= len(weights) / weights.sum()  # so that c means the same whatever is drawn
    return fit_linear(np.concatenate(features), labels, weights, protocol.c)


def _score_case(
    cohort: LabelledCases, case_id: str, classifiers: Sequence[LinearClassifier], folder: Path | None, name: str
) -> DenseScores:
    case = cohort.store[case_id]
    truth = cohort.truth(case)
    features = cohort.features(case)
    scores: dict[int, list[DenseScore]] = {label: [] for label in np.unique(truth.labels[truth.labels != 0]).tolist()}
    for number, classifier in enumerate(classifiers):
        segmentation = segment_by_maps(classifier.logits(features), truth.grid)
        for label, found in scores.items():
            found.append(_score(segmentation, label, truth.labels == label, truth.spacing))
        if folder is not None and number == 0:
            write_maps(folder, name, truth.affine, segmentation)
    return DenseScores(case_id, scores, truth.mask_sha256)


def _score(
    segmentation: Segmentation, label: int, mask: NDArray[np.bool_], spacing: Sequence[float] | None
) -> DenseScore:
    prediction = segmentation.prediction == label
    overlap = dice(prediction, mask)
    if spacing is None or not prediction.any():
        return DenseScore(overlap, None, None)
    distances = surface_distances(prediction, mask, spacing)
    return DenseScore(overlap, distances.hd95, distances.asd)

"""The dense probe: a linear classifier of frozen feature cells, trained on some cases and scored on others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, StoreError, VolumeError
from featlift.evaluation.draws import Draw, draw_cells
from featlift.evaluation.labelled import features_of, grid_of, labels_of
from featlift.evaluation.linear import LinearClassifier, fit_linear
from featlift.evaluation.maps import write_maps
from featlift.evaluation.scores import dice
from featlift.evaluation.segmentation import Segmentation, segment_by_maps
from featlift.evaluation.surface import surface_distances
from featlift.store.case import Case, CaseLayer
from featlift.store.reading import Store, open_store
from featlift.volumes.reading import read
from featlift.volumes.volume import Volume, spacing_of

Weighting = Literal["cells", "labels"]
Item = TypeVar("Item")
Progress = Callable[[Sequence[Item], str], Iterable[Item]]

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class DenseProtocol:
    """How the classifier is trained.

    Attributes:
        weighting: every one of the ``cells`` counts alike, or every one of the ``labels``, however rare it is.
        cells: at most as many are trained on, of all cases together: what memory there is for their features.
        c: inverse of the penalty on the weights, see `fit_linear`.
        layer: absolute index; None takes the deepest.
    """

    weighting: Weighting = "cells"
    cells: int = 100_000
    c: float = 1.0
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.weighting not in get_args(Weighting):
            raise OptionError(f"weighting {self.weighting!r}: choose cells or labels")
        if self.cells < 1 or not self.c > 0:
            raise OptionError(f"cells {self.cells}, c {self.c}: give numbers above 0")

    def as_json(self) -> dict[str, Any]:
        """What of it decides the scores."""
        return {"name": "linear", **vars(self)}

    @property
    def label(self) -> str:
        """What of it is not the default, for names of files."""
        parts = [
            "" if self.weighting == "cells" else f"weighting-{self.weighting}",
            "" if self.cells == DenseProtocol.cells else f"cells{self.cells}",
            "" if self.c == DenseProtocol.c else f"c{self.c:g}",
            "" if self.layer is None else f"layer{self.layer}",
        ]
        return "-".join(part for part in parts if part)


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


@dataclass(frozen=True, eq=False)
class _Cohort:
    """What is to be trained on and what is to be scored, masks checked."""

    store: Store
    masks: Mapping[str, str | Path]
    layer: int | None
    draws: dict[str, list[Draw]]  # by training case, one for each seed
    test: list[str]

    def features(self, case: Case) -> NDArray[np.float32]:
        try:
            return features_of(self.layer_of(case))
        except StoreError as error:
            raise StoreError(f"{case.id}: {error}") from error

    def layer_of(self, case: Case) -> CaseLayer:
        return case if self.layer is None else case.layers[self.layer]

    def labels(self, case: Case) -> tuple[NDArray[np.int32], Volume]:
        try:
            mask = read(self.masks[case.id])
            return labels_of(case, mask), mask
        except (VolumeError, FileNotFoundError) as error:
            raise VolumeError(f"{case.id}: {error}") from error


def _no_progress(items: Sequence[Item], doing: str) -> Iterable[Item]:
    return items


def dense_probe(
    store: Store | str | Path,
    masks: Mapping[str, str | Path],
    splits: Mapping[str, str],
    protocol: DenseProtocol | None = None,
    seeds: Sequence[int] = (0,),
    save_maps: str | Path | None = None,
    progress: Progress[str] = _no_progress,
) -> list[DenseScores]:
    """Train a linear classifier of cells on the cases of the split ``train``, segment those of ``test`` with it.

    Of the training cases at most ``protocol.cells`` cells are held in memory, of the others one case at a time. A test
    case's logits are upsampled trilinearly to the voxels of its stored scan, where the highest wins.

    Args:
        store: a store, or its path.
        masks: the path of the mask of each case, by its id; see `featlift.find_masks`.
        splits: the split of each case; those of other splits than ``train`` and ``test`` take no part.
        protocol: how to train; `DenseProtocol()` is the documented one.
        seeds: of the draws of cells; a classifier is trained from each.
        save_maps: a folder for the logits and predictions of the first seed as NIfTI, on the grid of the stored scan.
        progress: wraps the cases of each stage, told what is being done: to show how far it is.

    Raises:
        OptionError: a split without cases, a case without a mask, a label that only test cases have.
        VolumeError: a mask is damaged, empty, or of another place.
        StoreError: features are damaged.
    """
    store = store if isinstance(store, Store) else open_store(store)
    protocol = protocol or DenseProtocol()
    if not seeds:
        raise OptionError("no seeds: give at least one")
    cohort = _survey(store, masks, splits, protocol, seeds, progress)
    classifiers = [_train(cohort, number, seed, protocol, progress) for number, seed in enumerate(seeds)]
    folder = None if save_maps is None else Path(save_maps)
    return [_score_case(cohort, case_id, classifiers, folder) for case_id in progress(cohort.test, "scoring")]


def _survey(
    store: Store,
    masks: Mapping[str, str | Path],
    splits: Mapping[str, str],
    protocol: DenseProtocol,
    seeds: Sequence[int],
    progress: Progress[str],
) -> _Cohort:
    """Read every mask once: whatever is wrong with one is said before anything is trained."""
    ids = {split: [case_id for case_id in store if splits.get(case_id) == split] for split in (TRAIN, TEST)}
    for split, found in ids.items():
        if not found:
            raise OptionError(f"no case of {store.path} is in the split {split!r}: give the split of each")
        if without := [case_id for case_id in found if case_id not in masks]:
            raise OptionError(f"{without[0]} of the split {split!r} has no mask ({len(without)} of {len(found)} cases)")
    if protocol.layer is not None and protocol.layer not in (held := store.recipe["layers"]):
        raise OptionError(f"layer {protocol.layer}: {store.path} holds {', '.join(map(str, held))}")
    cohort = _Cohort(store, masks, protocol.layer, {}, ids[TEST])
    owner: dict[int, str] = {}  # of each label, a test case that has it
    most = max(1, protocol.cells // len(ids[TRAIN]))
    for number, case_id in enumerate(progress([*ids[TRAIN], *ids[TEST]], "reading masks")):
        case = store[case_id]
        labels, _ = cohort.labels(case)
        if number < len(ids[TRAIN]):
            on_cells = grid_of(case, cohort.layer_of(case)).labels_on_cells(labels, "centre")
            rngs = [np.random.default_rng([seed, number]) for seed in seeds]
            cohort.draws[case_id] = [draw_cells(on_cells, most, rng) for rng in rngs]
        else:
            owner |= {label: case_id for label in np.unique(labels).tolist()}
    known = {label for draws in cohort.draws.values() for label in np.unique(draws[0].labels).tolist()}
    if unknown := sorted(set(owner) - known):
        raise OptionError(f"label {unknown[0]} of {owner[unknown[0]]} is on no feature cell of any training case")
    if len(known) < 2:
        raise OptionError(f"every training cell has the label {known.pop()}: there is nothing to tell apart")
    return cohort


def _train(
    cohort: _Cohort, number: int, seed: int, protocol: DenseProtocol, progress: Progress[str]
) -> LinearClassifier:
    draws = [draws[number] for draws in cohort.draws.values()]
    features = []
    for case_id, draw in zip(progress(list(cohort.draws), f"training, seed {seed}"), draws, strict=True):
        dense = cohort.features(cohort.store[case_id])
        features.append(dense.reshape(len(dense), -1)[:, draw.cells].T)
    labels = np.concatenate([draw.labels for draw in draws])
    weights = np.concatenate([draw.weights for draw in draws])
    if protocol.weighting == "labels":
        for label in np.unique(labels):
            weights[labels == label] *= len(weights) / weights[labels == label].sum()
    weights *= len(weights) / weights.sum()  # so that c means the same whatever is drawn
    return fit_linear(np.concatenate(features), labels, weights, protocol.c)


def _score_case(
    cohort: _Cohort, case_id: str, classifiers: Sequence[LinearClassifier], folder: Path | None
) -> DenseScores:
    case = cohort.store[case_id]
    labels, mask = cohort.labels(case)
    grid = grid_of(case, cohort.layer_of(case))
    features = cohort.features(case)
    spacing = None if case.scan_affine is None else spacing_of(case.scan_affine)
    scores: dict[int, list[DenseScore]] = {label: [] for label in np.unique(labels[labels != 0]).tolist()}
    for number, classifier in enumerate(classifiers):
        segmentation = segment_by_maps(classifier.logits(features), grid)
        for label, found in scores.items():
            found.append(_score(segmentation, label, labels == label, spacing))
        if folder is not None and number == 0:
            write_maps(folder, case, segmentation)
    return DenseScores(case_id, scores, None if mask.source is None else mask.source["sha256"])


def _score(
    segmentation: Segmentation, label: int, mask: NDArray[np.bool_], spacing: Sequence[float] | None
) -> DenseScore:
    prediction = segmentation.prediction == label
    overlap = dice(prediction, mask)
    if spacing is None or not prediction.any():
        return DenseScore(overlap, None, None)
    distances = surface_distances(prediction, mask, spacing)
    return DenseScore(overlap, distances.hd95, distances.asd)

"""FeatDice of a store: one case after the other, features and mask to scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, StoreError, VolumeError
from featlift.evaluation.featdice.lesions import lesion_at
from featlift.evaluation.featdice.maps import write_maps
from featlift.evaluation.featdice.protocol import Protocol
from featlift.evaluation.featdice.segmentation import Segmentation, segment_by_centre, segment_by_prototypes
from featlift.evaluation.sources import features_from
from featlift.metrics.scores import Score, auroc, best_dice, dice
from featlift.names import file_names
from featlift.store.case import Case, CaseLayer
from featlift.store.cells import CellGrid
from featlift.store.features import layer_of
from featlift.store.reading import Store, open_store
from featlift.store.truth import Truth, truth_of
from featlift.volumes.reading import read_mask
from featlift.volumes.source import MaskFile
from featlift.volumes.volume import Volume


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Attributes:
        id: case id.
        labels: the scores of each label that its mask holds, background aside.
        mask_sha256: of the mask's file.
        failure: why it has no scores; empty if it has.
    """

    id: str
    labels: dict[int, Score] = field(default_factory=dict)
    mask_sha256: str | None = None
    failure: str = ""

    def mean(self, measure: str) -> float | None:
        """The mean of ``dice``, ``best_dice`` or ``auroc`` over the labels that have it; None if none has."""
        values = [value for score in self.labels.values() if (value := getattr(score, measure)) is not None]
        return float(np.mean(values)) if values else None


def featdice(
    store: Store | str | Path,
    masks: Mapping[str, MaskFile],
    protocol: Protocol | None = None,
    save_maps: str | Path | None = None,
) -> Iterator[CaseScores]:
    """FeatDice of every case that has a mask.

    Args:
        store: a store, or its path.
        masks: the path of the mask of each case to score, by its id; see `featlift.find_masks`.
        protocol: how; `Protocol()` is ``prototype``.
        save_maps: a folder for the maps and predictions as NIfTI, on the grid of the case's stored scan.

    Yields:
        The scores of each case in turn, or why there are none: a mask that is damaged, empty, or of another place.

    Raises:
        OptionError: no masks, a mask of a case that is not in the store, or a layer that it does not hold.
        StoreError: the store keeps no dense features, or none that could be uncentred.
    """
    store = store if isinstance(store, Store) else open_store(store)
    protocol = protocol or Protocol()
    store.require("dense")
    if protocol.uncentred:
        store.basis  # noqa: B018 - to fail here
    if not masks:
        raise OptionError(f"no masks for {store.path}: nothing to compare with")
    if unknown := sorted(set(masks) - set(store)):
        raise OptionError(f"masks for {unknown[0]}, which is no case of {store.path}")
    held = store.recipe["layers"]
    if protocol.layer is not None and protocol.layer not in held:
        raise OptionError(f"layer {protocol.layer}: {store.path} holds {', '.join(map(str, held))}")
    return _scores(store, masks, protocol, None if save_maps is None else Path(save_maps))


def _scores(
    store: Store, masks: Mapping[str, MaskFile], protocol: Protocol, folder: Path | None
) -> Iterator[CaseScores]:
    labels_of = lru_cache(maxsize=1)(read_mask)  # regions of one scan follow each other and share a mask
    names = file_names(store)
    for case_id in sorted(masks):
        try:
            yield score_case(store[case_id], labels_of(masks[case_id]), protocol, folder, names[case_id])
        except (VolumeError, StoreError, FileNotFoundError) as error:
            yield CaseScores(case_id, failure=str(error))


def score_case(
    case: Case, mask: Volume, protocol: Protocol, save_maps: Path | None = None, name: str | None = None
) -> CaseScores:
    """FeatDice of one case.

    Args:
        case: of a store, or made by `featlift.extract`.
        mask: of the patient, on any grid.
        protocol: how.
        save_maps: a folder for its maps and its prediction.
        name: how the names of these start; None is the case's id.

    Raises:
        VolumeError: the mask is empty, holds no labels, or does not overlap the case.
        StoreError: the features are damaged.
        OutputError: the maps cannot be written.
    """
    layer = layer_of(case, protocol.layer)
    truth = _truth(case, layer, mask, protocol)
    labels, grid = truth.labels, truth.grid
    features = features_from(case, layer, protocol.features, protocol.uncentred)
    if isinstance(grid, CellGrid) and protocol.name == "centre":
        segmentation = segment_by_centre(features, labels, grid, centre=protocol.centre, threshold=protocol.threshold)
    else:
        segmentation = segment_by_prototypes(features, labels, grid, nearest=protocol.nearest)
    scores = {label: _score(segmentation, label, labels == label) for label in np.unique(labels[labels != 0]).tolist()}
    if save_maps is not None:
        write_maps(save_maps, name or case.id, truth.affine, segmentation)
    return CaseScores(case.id, scores, truth.mask_sha256)


def _truth(case: Case, layer: CaseLayer, mask: Volume, protocol: Protocol) -> Truth:
    """The labels of a mask: for ``centre``, 1 in the lesion of its region."""
    centre = case.attributes["selection"]["centre"]
    if protocol.name == "prototype":
        return truth_of(case, layer, mask, protocol.on)
    truth = truth_of(case, layer, mask if centre is None else lesion_at(mask, centre))
    sha256 = None if mask.source is None else mask.source["sha256"]  # of the whole mask
    return replace(truth, labels=np.where(truth.labels != 0, np.int32(1), np.int32(0)), mask_sha256=sha256)


def _score(segmentation: Segmentation, label: int, mask: NDArray[np.bool_]) -> Score:
    if label not in segmentation.similarity:  # its map would say the same everywhere
        return Score(0.0, 0.0, None, 0.5)
    values = segmentation.map_of(label)
    best, threshold = best_dice(values, mask)
    return Score(dice(segmentation.prediction == label, mask), best, threshold, auroc(values, mask))

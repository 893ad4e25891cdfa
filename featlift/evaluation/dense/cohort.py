"""The cases that a dense probe is trained and scored on, with every mask read before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.evaluation.dense.draws import Draw, draw_cells
from featlift.evaluation.dense.protocol import DenseProtocol
from featlift.evaluation.sources import features_from
from featlift.progress import Progress, counted
from featlift.store.case import Case
from featlift.store.cells import VoxelGrid
from featlift.store.features import layer_of
from featlift.store.reading import Store
from featlift.store.truth import Truth, truth_of
from featlift.volumes.reading import read_mask
from featlift.volumes.source import MaskFile

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, eq=False)
class LabelledCases:
    """Cases with masks, in two splits.

    Attributes:
        store: that they are of.
        masks: the path of the mask of each case, by its id.
        protocol: how the probe is trained.
        draws: by training case what to train on, a draw for each seed.
        grids: of the training cases.
        test: ids of the cases to score.
    """

    store: Store
    masks: Mapping[str, MaskFile]
    protocol: DenseProtocol
    draws: dict[str, list[Draw]]
    grids: dict[str, VoxelGrid]
    test: list[str]

    def features(self, case: Case) -> NDArray[np.float32]:
        """See `features_from`."""
        return features_from(case, layer_of(case, self.protocol.layer), self.protocol.features)

    def truth(self, case: Case) -> Truth:
        """See `truth_of`; errors name the case."""
        try:
            return truth_of(case, layer_of(case, self.protocol.layer), read_mask(self.masks[case.id]), self.protocol.on)
        except (VolumeError, FileNotFoundError) as error:
            raise VolumeError(f"{case.id}: {error}") from error


def survey(
    store: Store,
    masks: Mapping[str, MaskFile],
    splits: Mapping[str, str],
    protocol: DenseProtocol,
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> LabelledCases:
    """Read the mask of every case that takes part and draw the cells, or voxels, to train on.

    Args:
        store: of the cases.
        masks: the path of the mask of each case, by its id.
        splits: the split of each case.
        protocol: how the probe is trained; at most its ``cells`` are drawn, of all training cases together.
        seeds: of the draws.
        progress: called with what is being done, the cases that are done and their number.

    Raises:
        OptionError: a split without cases, a case without a mask, a label that only test cases have.
        VolumeError: a mask is damaged, empty, or of another place.
        StoreError: the store keeps no dense features.
    """
    store.require("dense")
    ids = {split: [case_id for case_id in store if splits.get(case_id) == split] for split in (TRAIN, TEST)}
    for split, found in ids.items():
        if not found:
            raise OptionError(f"no case of {store.path} is in the split {split!r}: give the split of each")
        if without := [case_id for case_id in found if case_id not in masks]:
            raise OptionError(f"{without[0]} of the split {split!r} has no mask ({len(without)} of {len(found)} cases)")
    if (layer := protocol.layer) is not None and layer not in (held := store.recipe["layers"]):
        raise OptionError(f"layer {layer}: {store.path} holds {', '.join(map(str, held))}")
    cohort = LabelledCases(store, masks, protocol, {}, {}, ids[TEST])
    owner: dict[int, str] = {}  # of each label, a test case that has it
    most = max(1, protocol.cells // len(ids[TRAIN]))
    for number, case_id in enumerate(counted([*ids[TRAIN], *ids[TEST]], "reading masks", progress)):
        case = store[case_id]
        truth = cohort.truth(case)
        if number < len(ids[TRAIN]):
            rngs = [np.random.default_rng([seed, number]) for seed in seeds]
            labels = truth.grid.labels_to_learn(truth.labels)
            cohort.draws[case_id] = [draw_cells(labels, most, rng) for rng in rngs]
            cohort.grids[case_id] = truth.grid
        else:
            owner |= dict.fromkeys(np.unique(truth.labels).tolist(), case_id)
    known = {label for draws in cohort.draws.values() for label in np.unique(draws[0].labels).tolist()}
    if unknown := sorted(set(owner) - known):
        raise OptionError(f"label {unknown[0]} of {owner[unknown[0]]} is on no feature cell of any training case")
    if len(known) < 2:
        raise OptionError(f"every training cell has the label {known.pop()}: there is nothing to tell apart")
    return cohort

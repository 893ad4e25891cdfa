"""Who trains, who decides when to stop, and who is left for the test: always whole patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featlift.counting import number_of
from featlift.errors import OptionError

TRAIN, VAL, TEST = "train", "val", "test"
_HELD_BACK = 5  # every fifth patient stops the training where nothing else is said


@dataclass(frozen=True)
class Split:
    """Ids of the cases that a head is trained on, validated on, and not shown."""

    train: list[str]
    val: list[str]
    test: list[str]


def split_of(splits: Mapping[str, str], patients: Mapping[str, str], seed: int = 0) -> Split:
    """The split that was given; without a case for validation, a fifth of the training patients do that.

    Args:
        splits: train, val or test by case id.
        patients: by case id; a case that is not named is a patient of its own.
        seed: of the fifth.

    Raises:
        OptionError: nobody to train on, or a patient in two splits.
    """
    parts = {name: [case_id for case_id, split in splits.items() if split == name] for name in (TRAIN, VAL, TEST)}
    check_apart(parts, patients)
    train, val = parts[TRAIN], parts[VAL]
    if not val:
        train, val = _held_back(train, patients, seed)
    return Split(train, val, parts[TEST])


def folds_of(ids: Sequence[str], patients: Mapping[str, str], folds: int, seed: int = 0) -> list[Split]:
    """Cross-validation: every case is in the test of one fold; of the other folds' patients a fifth validate.

    Args:
        ids: of the cases.
        patients: by case id; a case that is not named is a patient of its own.
        folds: how many.
        seed: of the order of patients.

    Raises:
        OptionError: fewer patients than folds.
    """
    groups = _shuffled(ids, patients, seed)
    if not 2 <= folds <= len(groups):
        raise OptionError(
            f"{folds} folds of {number_of(len(groups), 'patient')}: give from 2 to as many as there are patients"
        )
    found = []
    for fold in range(folds):
        tested = {case_id for group in groups[fold::folds] for case_id in group}
        rest = [case_id for case_id in ids if case_id not in tested]
        train, val = _held_back(rest, patients, seed)
        found.append(Split(train, val, [case_id for case_id in ids if case_id in tested]))
    return found


def _held_back(ids: Sequence[str], patients: Mapping[str, str], seed: int) -> tuple[list[str], list[str]]:
    groups = _shuffled(ids, patients, seed)
    if len(groups) < 2:
        raise OptionError(
            f"{number_of(len(groups), 'patient')} to train on: give two or more, one of whom says when to stop"
        )
    held = {case_id for group in groups[:: min(_HELD_BACK, len(groups))] for case_id in group}
    return [case_id for case_id in ids if case_id not in held], [case_id for case_id in ids if case_id in held]


def _shuffled(ids: Sequence[str], patients: Mapping[str, str], seed: int) -> list[list[str]]:
    """Cases by patient, in an order that depends on the seed alone."""
    groups: dict[str, list[str]] = {}
    for case_id in sorted(ids):
        groups.setdefault(patients.get(case_id) or case_id, []).append(case_id)
    names = sorted(groups)
    np.random.default_rng(seed).shuffle(names)
    return [groups[name] for name in names]


def check_apart(parts: Mapping[str, Sequence[str]], patients: Mapping[str, str]) -> None:
    """Refuse a patient who is in two splits.

    Args:
        parts: the cases of each split.
        patients: by case id; a case that is not named is a patient of its own.

    Raises:
        OptionError: there is one.
    """
    owners: dict[str, tuple[str, str]] = {}
    for split, ids in parts.items():
        for case_id in ids:
            patient = patients.get(case_id) or case_id
            other, first = owners.setdefault(patient, (split, case_id))
            if other != split:
                raise OptionError(
                    f"patient {patient} is in two splits: {first} in {other}, {case_id} in {split}; "
                    "put all scans of a patient in one"
                )

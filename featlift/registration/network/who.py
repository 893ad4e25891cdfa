"""Which pairs a network is trained on, and which ones choose the round."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.errors import InputError, OptionError
from featlift.evaluation.classification.labels import rows_of_csv, splits_in
from featlift.registration.pair_list import read_pairs
from featlift.tables import read_table
from featlift.training.splits import TEST, TRAIN, VAL, split_of

Names = tuple[str, str]


@dataclass(frozen=True)
class Pairing:
    """Who meets whom.

    Attributes:
        train: of each item of a pass, the fixed and the moving scan; None is another training case, drawn each time.
        val: pairs that choose the round.
        test: pairs, or cases, that are not shown.
    """

    train: list[tuple[str, str | None]]
    val: list[Names]
    test: list[Any]

    @property
    def training_cases(self) -> list[str]:
        """Ids of all that are trained on."""
        return list(dict.fromkeys(case_id for pair in self.train for case_id in pair if case_id is not None))

    @property
    def cases(self) -> list[str]:
        """Ids of all that are trained on or validate."""
        return list(dict.fromkeys([*self.training_cases, *(case_id for pair in self.val for case_id in pair)]))

    def as_json(self) -> dict[str, Any]:
        """All of it but the test, as JSON would give it back."""
        return {"train": [list(pair) for pair in self.train], "val": [list(pair) for pair in self.val]}


def pairing_of(path: str | Path, ids: Collection[str], seed: int = 0) -> Pairing:
    """Read who trains and who validates.

    Pairs of the split ``train`` are trained on in both directions. Where only cases are listed, each training case is
    the fixed scan once in a pass, with another one drawn for it, and each validation case meets the next one.

    Args:
        path: a CSV with ``fixed,moving,split``, or with ``id,split`` and perhaps ``patient``.
        ids: of the cases that there are.
        seed: of the fifth of the training patients who validate where cases are listed and none is in ``val``.

    Raises:
        InputError: no such file, or not as it should be.
        OptionError: nobody to train or validate on, or a case in pairs of two splits.
    """
    wanted = "give a CSV with fixed,moving,split, or with id,split"
    names = read_table(Path(path), ("fixed", "moving", "id", "split"), wanted).names
    if {"fixed", "moving"} <= set(names):
        found = _of_pairs(path, ids)
    elif "id" in names:
        found = _of_cases(path, ids, seed)
    else:
        raise InputError(f"{path}: it has the columns {', '.join(names)}; {wanted}")
    if unknown := next((case_id for case_id in found.cases if case_id not in ids), None):
        raise OptionError(f"{path}: there is no scan {unknown}: take it out, or give all scans")
    return found


def _of_pairs(path: str | Path, ids: Collection[str]) -> Pairing:
    pairs: dict[str, list[Names]] = {TRAIN: [], VAL: [], TEST: []}
    for pair in read_pairs(path, ids, ids):
        if pair.split not in ("", *pairs):
            raise InputError(f"{path}: {pair.id} has the split {pair.split!r}: give {TRAIN}, {VAL} or {TEST}")
        if pair.split:
            pairs[pair.split].append((pair.fixed, pair.moving))
    for split in (TRAIN, VAL):
        if not pairs[split]:
            raise OptionError(
                f"{path}: no pair has the split {split}: it says which pairs train, and which choose the round"
            )
    _check_apart(path, pairs)
    both_ways = dict.fromkeys(way for fixed, moving in pairs[TRAIN] for way in ((fixed, moving), (moving, fixed)))
    return Pairing(list(both_ways), pairs[VAL], [list(pair) for pair in pairs[TEST]])


def _of_cases(path: str | Path, ids: Collection[str], seed: int) -> Pairing:
    rows = rows_of_csv(path, ids)
    splits = splits_in(rows, str(path))
    if not splits:
        raise InputError(f"{path}: no column split: it says train, val or test of each case (a patient's all in one)")
    split = split_of(splits, {case_id: row["patient"] for case_id, row in rows.items() if row.get("patient")}, seed)
    if len(split.train) < 2 or len(split.val) < 2:
        raise OptionError(
            f"{path}: {len(split.train)} cases train, {len(split.val)} validate: give two or more of each"
        )
    ring = [*zip(split.val, [*split.val[1:], split.val[0]], strict=True)]
    return Pairing([(case_id, None) for case_id in split.train], ring, split.test)


def _check_apart(path: str | Path, pairs: dict[str, list[Names]]) -> None:
    """No case may be in two splits, but for one that is the fixed scan of all pairs: an atlas."""
    fixed = {pair[0] for of in pairs.values() for pair in of}
    owners: dict[str, str] = {}
    for split, of in pairs.items():
        for case_id in (case_id for pair in of for case_id in pair):
            if owners.setdefault(case_id, split) != split and fixed != {case_id}:
                raise OptionError(
                    f"{path}: {case_id} is in pairs of two splits, {owners[case_id]} and {split}: put all pairs of a "
                    "case in one (but for an atlas, the fixed scan of all)"
                )


def moving_of(train: Sequence[tuple[str, str | None]], index: int, draw: Any) -> Names:
    """The pair of an item of a pass; a moving scan that is not given is another fixed one.

    Args:
        train: see `Pairing`.
        index: of the item.
        draw: a generator of random numbers.
    """
    fixed, moving = train[index]
    if moving is None:
        step = 1 + int(draw.integers(len(train) - 1))
        moving = train[(index + step) % len(train)][0]
    return fixed, moving

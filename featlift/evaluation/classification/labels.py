"""What is to be predicted of each case: labels and splits, from a CSV or from the store's index."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featlift.counting import number_of
from featlift.errors import InputError, OptionError
from featlift.metrics.bootstrap import groups_of
from featlift.store.index import check_label_names, label_columns, read_index
from featlift.store.reading import Store
from featlift.store.vectors import VectorTable
from featlift.tables import read_table
from featlift.training.splits import check_apart
from featlift.volumes.scan import known_id

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "val", "test")
_LABEL, _SPLIT, _PATIENT, _ID = "label", "split", "patient", "id"


@dataclass(frozen=True)
class Task:
    """One thing to predict: a label, or one of several findings.

    Attributes:
        name: the label column.
        ids: the cases that have the label.
        labels: which of the classes each is, ``(N,)``.
        classes: their names, numbers in order of size, others by the alphabet. Of two, the second is the positive one.
        splits: train, val or test of each case; empty where nothing is said of them.
        source: where it was read.
        patients: of each case; empty where each is a patient of its own.
    """

    name: str
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    source: str
    patients: tuple[str, ...] = ()

    def groups(self, cases: NDArray[np.intp]) -> NDArray[np.intp]:
        """Which patient each of some cases is of, numbered, ``(N,)``."""
        of = self.patients or self.ids
        return groups_of([of[case] for case in cases.tolist()])

    def of(self, *splits: str) -> list[NDArray[np.intp]]:
        """Which of the cases are in each of these splits, every one of which has to hold every class.

        Raises:
            InputError: there are no splits, or one is empty or lacks a class.
        """
        if not self.splits:
            raise InputError(
                f"{self.source}: no column {_SPLIT}: add one that says {', '.join(splits)} for each case "
                "(all scans of a patient in one)"
            )
        members = [np.flatnonzero(np.array(self.splits) == split) for split in splits]
        for split, indices in zip(splits, members, strict=True):
            self._check(indices, f"in the split {split}")
        return members

    def everything(self) -> NDArray[np.intp]:
        """All of the cases, which have to hold every class more than once.

        Raises:
            InputError: a class has a single case, so nothing is left to know it by.
        """
        indices = np.arange(len(self.ids))
        self._check(indices, "twice, so that one could be found by the other", least=2)
        return indices

    def _check(self, indices: NDArray[np.intp], where: str, least: int = 1) -> None:
        counts = np.bincount(self.labels[indices], minlength=len(self.classes))
        if missing := [name for name, count in zip(self.classes, counts, strict=True) if count < least]:
            raise InputError(
                f"{self.source}: class {missing[0]} of {self.name} does not occur {where}; "
                f"it has {number_of(len(indices), 'case')} there, classes are {_some(self.classes)}"
            )


def read_labels(store: Store, path: str | Path | None = None, columns: Sequence[str] = ()) -> list[Task]:
    """The tasks of a CSV, or of the label columns of the store's index, as manifests and MedMNIST leave them there.

    Args:
        store: whose cases they are of.
        path: a CSV with ``id``, labels and perhaps ``split``; None reads the index.
        columns: the columns to predict. Without any: ``label`` if there is one, or else every column, each then being a
            finding, 0 or 1. What is blank is not known: the case takes no part in that task.

    Raises:
        InputError: no such file or column, an id twice or of no case, a label or split that is none.
        StoreError: the store has no readable index.
    """
    where, rows = _rows_of(store, path)
    return tasks_of(rows, where, columns)


def tasks_of(rows: Mapping[str, dict[str, str]], where: str, columns: Sequence[str] = ()) -> list[Task]:
    """What is to be predicted, by what is known of each case; see `read_labels`.

    Args:
        rows: by case id, what each column says.
        where: they were read.
        columns: to predict.
    """
    given = [name for name in next(iter(rows.values()), {}) if name not in (_SPLIT, _PATIENT)]
    columns = [name if name in given else name.casefold() for name in columns]  # Label is label
    if unknown := [name for name in columns if name not in given]:
        raise OptionError(f"{where}: no column {unknown[0]}; its labels are {_some(given) or 'none'}")
    if not given:
        raise InputError(f"{where}: no labels; give a CSV with id,label,split as --labels")
    names = list(columns) or ([_LABEL] if _LABEL in given else given)
    splits = splits_in(rows, where)
    parts = {split: [case_id for case_id, other in splits.items() if other == split] for split in SPLITS}
    check_apart(parts, {case_id: row.get(_PATIENT, "") for case_id, row in rows.items()})
    return [_task(rows, splits, name, where, finding=not columns and len(names) > 1) for name in names]


def read_splits(store: Store, path: str | Path | None = None) -> dict[str, str]:
    """The split of each case that has one.

    Args:
        store: whose cases they are.
        path: a CSV with ``id`` and ``split``; None reads the index.

    Raises:
        InputError: no such file, no splits in it, an id twice or of no case, a split that is none.
        StoreError: the store has no readable index.
    """
    where, rows = _rows_of(store, path)
    if splits := splits_in(rows, where):
        return splits
    raise InputError(f"{where}: no column {_SPLIT}: give a CSV with id,split as --labels")


def read_column(store: Store, path: str | Path | None, name: str) -> dict[str, str]:
    """What a column says of each case, blanks left out; empty without such a column.

    Args:
        store: whose cases they are.
        path: a CSV with ``id``; None reads the index.
        name: of the column, such as ``patient``.

    Raises:
        InputError: no such file, an id twice or of no case.
        StoreError: the store has no readable index.
    """
    _, rows = _rows_of(store, path)
    return {case_id: row[name] for case_id, row in rows.items() if row.get(name)}


def _task(rows: Mapping[str, dict[str, str]], splits: dict[str, str], name: str, where: str, finding: bool) -> Task:
    values = {case_id: row[name] for case_id, row in rows.items() if row[name] and (not splits or case_id in splits)}
    if finding and (wrong := next((case_id for case_id, value in values.items() if value not in "01"), None)):
        raise InputError(
            f"{where}: {name} of {wrong} is {values[wrong]!r}: give 0, 1 or nothing for each finding, "
            "or choose columns with --label"
        )
    classes = sorted(set(values.values()), key=_by_size)
    if len(classes) < 2:
        raise InputError(f"{where}: {name} has {'one class' if classes else 'no labels'}: nothing to tell apart")
    ids = tuple(sorted(values))
    labels = np.array([classes.index(values[case_id]) for case_id in ids])
    of = {case_id: row.get(_PATIENT) or case_id for case_id, row in rows.items()}
    patients = tuple(of[case_id] for case_id in ids) if len(set(of.values())) < len(of) else ()
    return Task(name, ids, labels, tuple(classes), tuple(splits[case_id] for case_id in ids if splits), where, patients)


def splits_in(rows: Mapping[str, dict[str, str]], where: str) -> dict[str, str]:
    """The split of each case that has one; none at all if no case has."""
    splits = {case_id: row[_SPLIT] for case_id, row in rows.items() if row.get(_SPLIT)}
    if wrong := next((case_id for case_id, split in splits.items() if split not in SPLITS), None):
        raise InputError(f"{where}: the split of {wrong} is {splits[wrong]!r}: give {', '.join(SPLITS)}")
    return splits


def _rows_of(store: Store, path: str | Path | None) -> tuple[str, dict[str, dict[str, str]]]:
    """Where the columns of each case come from, and the columns."""
    if path is None and isinstance(store, VectorTable):
        if not label_columns(store.labels):
            raise InputError(f"{store.path} has no labels: give them with --labels, a CSV with id,label,split")
        return str(store.path), _rows_in(store.labels, store)
    if path is None:
        return f"the index of {store.path}", _rows_in(read_index(store.path), store)
    rows = rows_of_csv(path, store)
    if unknown := [case_id for case_id in rows if case_id not in store]:
        raise InputError(
            f"{path}: {len(unknown)} of {len(rows)} ids are no case of {store.path}, as {unknown[0]}: "
            "extract them, or take them out of the file"
        )
    return str(path), rows


def rows_of_csv(path: str | Path, ids: Container[str]) -> dict[str, dict[str, str]]:
    """What each column of a CSV with ``id`` says of each case.

    Args:
        path: of the CSV.
        ids: of the cases that there are, which the file may name with their extension.

    Raises:
        InputError: no such file, no ids in it, or one twice.
    """
    table = read_table(Path(path), (_ID, _LABEL, _SPLIT, _PATIENT), "labels are a CSV with id,label,split")
    if _ID not in table.names or len(set(table.names)) < len(table.names):
        raise InputError(f"{path}: give a header such as id,label,split, no name twice; it has {_some(table.names)}")
    check_label_names((name for name in table.names if name != _ID), str(path))
    rows: dict[str, dict[str, str]] = {}
    for number, texts in zip(table.lines, table.dicts(), strict=True):
        row = {name: value.strip() for name, value in texts.items()}
        case_id = known_id(row.pop(_ID), ids)
        if not case_id or case_id in rows:
            raise InputError(f"{path}, line {number}: {f'id {case_id} stands twice' if case_id else 'no id'}")
        rows[case_id] = row
    return rows


def _rows_in(table: pa.Table, store: Store) -> dict[str, dict[str, str]]:
    """What the label columns of an index say of each case that there is."""
    columns = label_columns(table)
    asked = {_LABEL, _SPLIT, _PATIENT} - {*columns}
    names = [name.casefold() if name.casefold() in asked else name for name in columns]
    values = table.select([_ID, *columns]).rename_columns([_ID, *names]).to_pylist()
    return {
        row[_ID]: {name: "" if row[name] is None else str(row[name]).strip() for name in names}
        for row in values
        if row[_ID] in store
    }


def _by_size(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

"""Score the features of a store: one task of a study, as the commands of the same names do it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featlift.errors import OptionError, VolumeError
from featlift.evaluation import (
    BagProbe,
    DenseProtocol,
    Probe,
    Protocol,
    Result,
    Task,
    dense_probe,
    dense_result,
    featdice,
    featdice_result,
    knn,
    probe,
    read_labels,
)
from featlift.evaluation.classification.protocol import SEEDS
from featlift.progress import Progress
from featlift.store import Store
from featlift.study.cells import Cell, Split
from featlift.study.plan import MEASURES, StudyTask
from featlift.volumes.source import MaskFile

_SEEDS = (0,)
_OF_BAGS = ("bag", "pooling", "hidden", "gate", "instances")
_OF_A_LABEL = re.compile(r"(dice|hd95|asd)_\d+")


@dataclass(frozen=True)
class Scored:
    """What a task is given.

    Attributes:
        store: with the features of the cases of the splits that take part.
        masks: the path of each case's mask, by its id.
        splits: of each case that takes part, train, val or test.
        table: a CSV of these cases with ``id,split`` and labels.
    """

    store: Store
    masks: Mapping[str, MaskFile]
    splits: Mapping[str, str]
    table: Path


def check_task(task: StudyTask) -> None:
    """Refuse what a task cannot be asked for, with an `OptionError`."""
    known, check = _KINDS[task.kind][1:]
    if unknown := [name for name in task.options if name not in known]:
        raise OptionError(f"task {task.name}: no option {unknown[0]!r}: {task.kind} has {', '.join(known)}")
    if task.measure not in (measures := MEASURES[task.kind]) and not _OF_A_LABEL.fullmatch(task.measure):
        raise OptionError(f"task {task.name}: no measure {task.measure!r}: {task.kind} has {', '.join(measures)}")
    if task.kind in ("knn", "probe") and (task.features != ("stored",) or task.layers):
        raise OptionError(f"task {task.name}: layers and features are of dense tasks; give arms layers of their own")
    try:
        check(task.options)
    except (OptionError, TypeError, ValueError) as error:
        raise OptionError(f"task {task.name}: {error}") from error


def score(cell: Cell, given: Scored, progress: Progress | None = None) -> Result:
    """The result of a cell, named after its file.

    Raises what the evaluations do.
    """
    result = _KINDS[cell.task.kind][0](cell, given, progress)
    return replace(result, name=cell.place(Path()).stem)


def _featdice_protocol(options: Mapping[str, Any], **more: Any) -> Protocol:
    values = {**options, **more}
    return Protocol(**{("name" if key == "protocol" else key): value for key, value in values.items()})


def _featdice(cell: Cell, given: Scored, progress: Progress | None) -> Result:
    protocol = _featdice_protocol(cell.task.options, layer=cell.layer, features=cell.features)
    ids = [case_id for case_id, split in given.splits.items() if split == cell.split]
    masks = {case_id: given.masks[case_id] for case_id in ids if case_id in given.masks}
    scores = []
    for scored in featdice(given.store, masks, protocol):
        scores.append(scored)
        if scored.failure:
            raise VolumeError(f"{scored.id}: {scored.failure}")
        if progress is not None:
            progress("featdice", len(scores), len(masks))
    left_out = [case_id for case_id in given.store if case_id not in masks]
    return featdice_result(given.store.name, given.store.recipe, protocol, scores, left_out)


def _dense(cell: Cell, given: Scored, progress: Progress | None) -> Result:
    options = dict(cell.task.options)
    seeds = tuple(options.pop("seeds", _SEEDS))
    protocol = DenseProtocol(**options, layer=cell.layer, features=cell.features)
    # what is scored on the test split is trained on all other cases: nothing is left to choose
    splits = {case_id: "test" if split == cell.split else "train" for case_id, split in given.splits.items()}
    scores = dense_probe(given.store, given.masks, splits, protocol, seeds, progress=progress)
    return dense_result(given.store, protocol, scores, splits, seeds)


def _knn(cell: Cell, given: Scored, progress: Progress | None) -> Result:
    options = dict(cell.task.options)
    tasks = _tasks(given, options.pop("label", None), cell.split, needs_val=False)
    k = options.pop("k", 20)
    return _last(list(knn(given.store, tasks, options.pop("input", None), (k,), **options)))


def _probe(cell: Cell, given: Scored, progress: Progress | None) -> Result:
    options = dict(cell.task.options)
    how = _probe_protocol(options)
    tasks = _tasks(given, options.get("label"), cell.split, needs_val=how.name != "ct-rate")
    return _last(list(probe(given.store, tasks, how, progress)))


def _probe_protocol(options: Mapping[str, Any]) -> Probe:
    names = {"protocol": "name", "input": "wanted"}
    values: dict[str, Any] = {names.get(key, key): value for key, value in options.items() if key != "label"}
    values["seeds"] = tuple(values.get("seeds", SEEDS))
    bags = {key: values.pop(key) for key in _OF_BAGS if key in values}
    return Probe(**values, bags=BagProbe(**bags) if bags else None)


def _last(results: Sequence[Result]) -> Result:
    """Of several labels the mean over them, which comes last."""
    return results[-1]


def _tasks(given: Scored, label: Any, split: Split, needs_val: bool) -> list[Task]:
    labels = [label] if isinstance(label, str) else list(label or ())
    tasks = read_labels(given.store, given.table, labels)
    return tasks if split == "test" else [_tested_on_val(task, needs_val) for task in tasks]


def _tested_on_val(task: Task, keep_val: bool) -> Task:
    """A task whose cases of ``val`` are those to test; they stay for choosing iterations where a probe needs that."""
    splits = np.array(task.splits)
    train, val = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "val")
    rows = np.concatenate([train, val, val] if keep_val else [train, val])
    named = ["train"] * len(train) + ["val"] * (len(val) if keep_val else 0) + ["test"] * len(val)
    return replace(task, ids=tuple(task.ids[row] for row in rows), labels=task.labels[rows], splits=tuple(named))


def _check_knn(options: Mapping[str, Any]) -> None:
    if not isinstance(options.get("k", 20), int) or options.get("k", 20) < 1:
        raise OptionError(f"k {options['k']!r}: give a whole number, at least 1")


_Run = Callable[[Cell, Scored, Progress | None], Result]
_Check = Callable[[Mapping[str, Any]], object]
#: By kind: what scores, the options there are, and what refuses them.
_KINDS: dict[str, tuple[_Run, tuple[str, ...], _Check]] = {
    "featdice": (_featdice, ("protocol", "centre", "threshold", "nearest", "uncentred", "on"), _featdice_protocol),
    "dense": (
        _dense,
        ("weighting", "cells", "c", "on", "seeds"),
        lambda options: DenseProtocol(**{key: value for key, value in options.items() if key != "seeds"}),
    ),
    "knn": (_knn, ("k", "temperature", "input", "label"), _check_knn),
    "probe": (_probe, ("protocol", "input", "seeds", "iterations", "label", *_OF_BAGS), _probe_protocol),
}

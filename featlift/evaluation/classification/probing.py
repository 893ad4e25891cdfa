"""Linear probes of a store: how much of a label frozen features hold for a linear model that is trained on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.evaluation.classification.embeddings import Input, embeddings_of, input_of, pooled, slices_of
from featlift.evaluation.classification.labels import Task
from featlift.evaluation.classification.logistic import CS, logistic
from featlift.evaluation.classification.means import with_means
from featlift.evaluation.classification.result import classification_result
from featlift.metrics.classification import SPECIFICITY
from featlift.metrics.classification_bootstrap import RESAMPLES
from featlift.progress import Progress, counted
from featlift.results.result import Result
from featlift.store.reading import Store

SEEDS = (0, 1, 2, 3, 4)

Name = Literal["logistic", "planecycle", "ct-rate"]
#: Called with what is being done, how far it is, and how far it has to go.


@dataclass(frozen=True)
class Probe:
    """Which probe, see docs/reference/probe.md.

    Attributes:
        name: ``logistic``, ``planecycle`` or ``ct-rate``.
        wanted: what of the features, see `input_of`.
        seeds: of the trainings; ``logistic`` draws nothing.
        iterations: instead of the published number, for trials.
        specificity: at which sensitivity is read.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """

    name: Name = "planecycle"
    wanted: str | None = None
    seeds: tuple[int, ...] = SEEDS
    iterations: int | None = None
    specificity: float = SPECIFICITY
    seed: int = 0
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise OptionError(f"protocol {self.name!r}: choose {', '.join(get_args(Name))}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise OptionError(f"seeds {self.seeds}: give at least one, and none twice")
        if self.iterations is not None and (self.iterations < 1 or self.name == "logistic"):
            raise OptionError("iterations: at least 1, and logistic has none: it runs until it has converged")


def probe(store: Store, tasks: Sequence[Task], how: Probe, progress: Progress | None = None) -> Iterator[Result]:
    """Train a probe for each task, and measure it on the test split.

    Args:
        store: of the features.
        tasks: what to predict; ``ct-rate`` trains them all in one, the others each by itself.
        how: which probe.
        progress: told of what takes time.

    Yields:
        A result for each task, and their mean if there are several.

    Raises:
        OptionError: an input that the backbone has not; a task of more than two classes for ``ct-rate``.
        InputError: a split that is empty or lacks a class.
        StoreError: features are damaged.
    """
    yield from with_means(_by_task(store, tasks, how, progress))


def _by_task(store: Store, tasks: Sequence[Task], how: Probe, progress: Progress | None) -> Iterator[Result]:
    given = input_of(store, how.wanted)
    needed = ("train", "test") if how.name == "ct-rate" else ("train", "val", "test")
    parts = [task.of(*needed) for task in tasks]
    if how.name == "ct-rate":
        yield from _findings(store, tasks, parts, given, how, progress)
        return
    ids = sorted({case_id for task in tasks for case_id in task.ids})
    if how.name == "logistic":
        vectors = dict(zip(ids, embeddings_of(store, ids, given), strict=True))
        for task, members in zip(tasks, parts, strict=True):
            yield _logistic(store, task, members, [vectors[case_id] for case_id in task.ids], given, how, progress)
        return
    slices = dict(zip(ids, slices_of(store, counted(ids, "reading", progress), given), strict=True))
    for task, members in zip(tasks, parts, strict=True):
        yield _planecycle(store, task, members, [slices[case_id] for case_id in task.ids], given, how, progress)


def _logistic(
    store: Store,
    task: Task,
    parts: Sequence[NDArray[np.intp]],
    embeddings: list[NDArray[np.float32]],
    given: Input,
    how: Probe,
    progress: Progress | None,
) -> Result:
    trained, validated, tested = parts
    found = logistic(np.stack(embeddings), task.labels, trained, validated, tested, _training(task.name, progress))
    details = {"c": found.c, "validation_auc": found.areas, "converged": found.converged}
    settings = {"cs": list(CS), "selected": "validation AUC"}
    return _result(store, task, tested, found.probabilities[None], how, given, settings, (), details)


def _planecycle(
    store: Store,
    task: Task,
    parts: Sequence[NDArray[np.intp]],
    slices: list[NDArray[np.float32]],
    given: Input,
    how: Probe,
    progress: Progress | None,
) -> Result:
    from featlift.evaluation.classification.multi_seed import ProbeTraining
    from featlift.evaluation.classification.selection import train_and_select

    training = ProbeTraining("cross entropy", 1e-3, 1e-5, 32, how.iterations or 10_000, "cosine")
    depth = int(np.median([len(slices[row]) for row in parts[0]]))
    vectors = pooled(slices, depth)
    found = train_and_select(
        vectors, task.labels, parts, len(task.classes), training, how.seeds, _training(task.name, progress)
    )
    settings = {**vars(training), "warm_up": training.iterations // 20, "depth": depth, "selected": "validation AUC"}
    details = {"best_iteration": found.iterations, "validation_auc": found.areas}
    return _result(store, task, parts[2], found.probabilities, how, given, settings, how.seeds, details)


def _findings(
    store: Store,
    tasks: Sequence[Task],
    parts: Sequence[Sequence[NDArray[np.intp]]],
    given: Input,
    how: Probe,
    progress: Progress | None,
) -> Iterator[Result]:
    """One linear layer for all findings; what is not known of a case takes no part in its loss."""
    import torch

    from featlift.evaluation.classification.multi_seed import ProbeTraining, train

    if several := [task.name for task in tasks if len(task.classes) > 2]:
        raise OptionError(f"ct-rate is for findings, yes or no, and {several[0]} has more classes: choose planecycle")
    ids = sorted({case_id for task in tasks for case_id in task.ids})
    rows = {case_id: row for row, case_id in enumerate(ids)}
    targets = np.full((len(ids), len(tasks)), np.nan, dtype=np.float32)
    for column, (task, (trained, _)) in enumerate(zip(tasks, parts, strict=True)):
        targets[[rows[task.ids[index]] for index in trained], column] = task.labels[trained]
    learned = np.flatnonzero(~np.isnan(targets).all(axis=1))
    vectors = torch.from_numpy(embeddings_of(store, ids, given))[:, None]
    batch = 1024
    iterations = how.iterations or 50 * math.ceil(len(learned) / batch)
    training = ProbeTraining("binary cross entropy", 0.005, 0.01, batch, iterations, "constant")
    told = _training("all findings", progress)
    heads = train(vectors[learned], torch.from_numpy(targets[learned]), len(tasks), training, how.seeds, progress=told)
    probabilities = heads(vectors).double().sigmoid().numpy()
    for column, (task, (_, tested)) in enumerate(zip(tasks, parts, strict=True)):
        positive = probabilities[:, [rows[task.ids[index]] for index in tested], column]
        both = np.stack([1 - positive, positive], axis=-1)
        settings = {**vars(training), "findings": [each.name for each in tasks]}
        yield _result(store, task, tested, both, how, given, settings, how.seeds, {})


def _result(
    store: Store,
    task: Task,
    tested: NDArray[np.intp],
    probabilities: NDArray[np.floating],
    how: Probe,
    given: Input,
    settings: dict[str, Any],
    seeds: Sequence[int],
    details: dict[str, Any],
) -> Result:
    return classification_result(
        "probe",
        store,
        {"name": how.name, "input": given, **settings},
        task,
        tested,
        probabilities,
        seeds=seeds,
        specificity=how.specificity,
        seed=how.seed,
        resamples=how.resamples,
        details=details,
    )


def _training(name: str, progress: Progress | None) -> Callable[[int, int], object] | None:
    return None if progress is None else lambda done, total: progress(f"training {name}", done, total)

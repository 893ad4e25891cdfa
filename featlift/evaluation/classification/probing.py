"""Probes of a store: how much of a label frozen features hold for a small model that is trained on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.evaluation.classification.embeddings import Input, embeddings_of, input_of, pooled, slices_of
from featlift.evaluation.classification.labels import Task
from featlift.evaluation.classification.logistic import CS, logistic
from featlift.evaluation.classification.means import with_means
from featlift.evaluation.classification.protocol import Probe
from featlift.evaluation.classification.result import probe_result
from featlift.evaluation.classification.targets import Targets
from featlift.progress import Progress, counted, steps
from featlift.results.result import Result
from featlift.store.reading import Store


def probe(
    store: Store,
    tasks: Sequence[Task],
    how: Probe,
    progress: Progress | None = None,
    attention: str | Path | None = None,
) -> Iterator[Result]:
    """Train a probe for each task, and measure it on the test split.

    Args:
        store: of the features.
        tasks: what to predict; ``ct-rate`` and ``abmil`` train several in one, the others each by itself.
        how: which probe.
        progress: told of what takes time.
        attention: a folder for what ``abmil`` attends to in the tested cases, as NIfTI; see `write_attention`.

    Yields:
        A result for each task, and their mean if there are several.

    Raises:
        OptionError: an input that the backbone has not; a task of more than two classes among several findings;
            attention of what has none.
        InputError: a split that is empty or lacks a class.
        StoreError: features are damaged, or not kept.
        OutputError: the folder cannot be written.
    """
    yield from with_means(_by_task(store, tasks, how, progress, attention))


def _by_task(
    store: Store, tasks: Sequence[Task], how: Probe, progress: Progress | None, attention: str | Path | None
) -> Iterator[Result]:
    if attention is not None and how.name != "abmil":
        raise OptionError(f"attention: of protocol abmil, not of {how.name}")
    if how.name == "abmil":
        from featlift.evaluation.classification.abmil import abmil

        yield from abmil(store, tasks, how, progress, None if attention is None else Path(attention))
        return
    given = input_of(store, how.wanted)
    if how.name == "ct-rate":
        yield from _findings(store, tasks, given, how, progress)
        return
    parts = [task.of("train", "val", "test") for task in tasks]
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
    told = steps(f"training {task.name}", progress)
    found = logistic(np.stack(embeddings), task.labels, trained, validated, tested, told)
    details = {"c": found.c, "validation_auc": found.areas, "converged": found.converged}
    settings = {"cs": list(CS), "selected": "validation AUC"}
    return probe_result(store, task, tested, found.probabilities[None], how, given, settings, (), details)


def _planecycle(
    store: Store,
    task: Task,
    parts: Sequence[NDArray[np.intp]],
    slices: list[NDArray[np.float32]],
    given: Input,
    how: Probe,
    progress: Progress | None,
) -> Result:
    import torch

    from featlift.evaluation.classification.linear import LinearHeads, SliceVectors
    from featlift.evaluation.classification.multi_seed import ProbeTraining
    from featlift.evaluation.classification.selection import train_and_select

    training = ProbeTraining("cross entropy", 1e-3, 1e-5, 32, how.iterations or 10_000, "cosine")
    depth = int(np.median([len(slices[row]) for row in parts[0]]))
    vectors = torch.from_numpy(pooled(slices, depth))
    found = train_and_select(
        partial(LinearHeads, depth, vectors.shape[-1], len(task.classes)),
        SliceVectors(vectors),
        task.labels,
        parts,
        training,
        how.seeds,
        steps(f"training {task.name}", progress),
    )
    settings = {**vars(training), "warm_up": training.iterations // 20, "depth": depth, "selected": "validation AUC"}
    details = {"best_iteration": found.iterations, "validation_auc": found.areas}
    return probe_result(store, task, parts[2], found.probabilities, how, given, settings, how.seeds, details)


def _findings(
    store: Store, tasks: Sequence[Task], given: Input, how: Probe, progress: Progress | None
) -> Iterator[Result]:
    """One linear layer for all findings; what is not known of a case takes no part in its loss."""
    import torch

    from featlift.evaluation.classification.linear import LinearHeads, SliceVectors
    from featlift.evaluation.classification.multi_seed import ProbeTraining, probabilities_of, train

    findings = Targets.of_findings(tasks, "train", "test")
    learned = findings.parts[0]
    vectors = torch.from_numpy(embeddings_of(store, findings.ids, given))[:, None]
    cases = SliceVectors(vectors)
    batch = 1024
    iterations = how.iterations or 50 * math.ceil(len(learned) / batch)
    training = ProbeTraining("binary cross entropy", 0.005, 0.01, batch, iterations, "constant")
    heads = train(
        partial(LinearHeads, 1, vectors.shape[-1], len(tasks)),
        cases.of(learned),
        torch.from_numpy(findings.values[learned]),
        training,
        how.seeds,
        progress=steps("training all findings", progress),
    )
    probabilities = probabilities_of(cases.scored(heads), training.loss)
    settings = {**vars(training), "findings": [task.name for task in tasks]}
    for column, (task, rows) in enumerate(zip(tasks, findings.tested, strict=True)):
        (tested,) = task.of("test")
        positive = probabilities[:, rows, column]
        both = np.stack([1 - positive, positive], axis=-1)
        yield probe_result(store, task, tested, both, how, given, settings, how.seeds, {})

"""Predicted probabilities as a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.evaluation.classification.labels import Task
from featlift.evaluation.classification.protocol import Probe
from featlift.metrics.bootstrap import LEAST_CASES
from featlift.metrics.classification import SPECIFICITY
from featlift.metrics.classification_bootstrap import RESAMPLES, classification_intervals, classification_measures
from featlift.results.result import Cases, Measure, Result, name_of


def classification_result(
    kind: str,
    store: Cases,
    protocol: dict[str, Any],
    task: Task,
    tested: NDArray[np.intp],
    probabilities: NDArray[np.floating],
    *,
    seeds: Sequence[int] = (),
    specificity: float = SPECIFICITY,
    seed: int = 0,
    resamples: int = RESAMPLES,
    details: dict[str, Any] | None = None,
) -> Result:
    """The measures of a classification, with everything they can be made from again.

    Args:
        kind: ``knn`` or ``probe``.
        store: whose features they were predicted from.
        protocol: how: ``name``, ``input`` and every other setting, such as the ``k`` of k-NN.
        task: what was predicted.
        tested: which of its cases are measured, ``(N,)``.
        probabilities: theirs, ``(seeds, N, classes)``; one for what draws nothing.
        seeds: of the trainings.
        specificity: at which sensitivity is read.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        details: what else there is to tell.
    """
    # what the file says is what is measured: the shortest decimals that a float32 is known by
    rounded = probabilities.astype(np.float32).astype(str).astype(np.float64)
    labels = task.labels[tested]
    groups = task.groups(tested)
    by_seed = [classification_measures(labels, each, specificity) for each in rounded]
    intervals = (
        classification_intervals(labels, rounded, specificity, seed, resamples, groups)
        if len(np.unique(groups)) >= LEAST_CASES
        else {}
    )
    held = set(task.ids)
    return Result(
        kind,
        result_name(store.name, kind, protocol, task.name),
        store.name,
        store.recipe,
        {**protocol, "specificity": specificity},
        {
            measure: measure_of([values[measure] for values in by_seed], intervals.get(measure), len(tested), seeds)
            for measure in by_seed[0]
        },
        [
            {
                "id": task.ids[index],
                "label": task.classes[task.labels[index]],
                "split": task.splits[index] if task.splits else None,
                **({"patient": task.patients[index]} if task.patients else {}),
                "probabilities": rounded[:, row].tolist(),
            }
            for row, index in enumerate(tested.tolist())
        ],
        task.name,
        list(seeds),
        {"seed": seed, "resamples": resamples},
        left_out=[case_id for case_id in store if case_id not in held],
        details={"classes": list(task.classes), **(details or {})},
    )


def probe_result(
    store: Cases,
    task: Task,
    tested: NDArray[np.intp],
    probabilities: NDArray[np.floating],
    how: Probe,
    given: str,
    settings: dict[str, Any],
    seeds: Sequence[int],
    details: dict[str, Any],
) -> Result:
    """`classification_result` of a probe.

    Args:
        store: of the features.
        task: what was predicted.
        tested: which of its cases are measured, ``(N,)``.
        probabilities: theirs, ``(seeds, N, classes)``.
        how: which probe.
        given: what of the features it was trained on.
        settings: of the training.
        seeds: of the trainings.
        details: what else there is to tell.
    """
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


def result_name(store: str, kind: str, protocol: dict[str, Any], task: str) -> str:
    """What the files of a classification are called."""
    return name_of(store, kind, f"{protocol.get('k', protocol['name'])}-{protocol['input']}", task)


def measure_of(values: list[float], interval: tuple[float, float] | None, cases: int, seeds: Sequence[int]) -> Measure:
    """A measure from its value for each seed, or from its only one, and the interval if it has one."""
    low, high = interval or (None, None)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Measure(float(np.mean(values)), cases, sd, low, high, values if seeds else None)

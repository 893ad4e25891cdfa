"""The mean over several tasks, such as the findings of a CT, as a result of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.evaluation.classification.result import measure_of, result_name
from featlift.metrics.bootstrap import LEAST_CASES
from featlift.metrics.classification_bootstrap import mean_intervals
from featlift.results.predictions import patients_of, predictions_by_task
from featlift.results.result import Measure, Result
from featlift.results.table import protocol_of


def with_means(results: Iterable[Result]) -> Iterator[Result]:
    """Results as they come, and after them the mean of each protocol that predicted several tasks.

    Args:
        results: of one store.
    """
    by_protocol: dict[str, dict[str, Result]] = {}
    for result in results:
        by_protocol.setdefault(protocol_of(result), {})[result.task] = result
        yield result
    for by_task in by_protocol.values():
        if len(by_task) > 1:
            yield mean_result(list(by_task.values()))


def mean_result(results: Sequence[Result]) -> Result:
    """The mean over tasks of each measure, every task counting the same.

    Its interval draws from the cases of all tasks together, the same ones for each task, which is measured on those of
    them whose label is known.

    Args:
        results: of one store and protocol, each of another task.
    """
    first, tasks = results[0], [result.task for result in results]
    name = f"mean of {len(tasks)}"
    nowhere = set.intersection(*(set(result.left_out) for result in results))
    protocol = {**_shared([result.protocol for result in results]), "tasks": tasks}
    mean = Result(
        first.kind,
        result_name(first.store, first.kind, protocol, name),
        first.store,
        first.recipe,
        protocol,
        {},
        _cases(results),
        name,
        first.seeds,
        first.bootstrap,
        left_out=[case_id for case_id in first.left_out if case_id in nowhere],
        details={"classes": {result.task: result.details["classes"] for result in results}},
    )
    return replace(mean, measures=_measures(mean, results))


def _measures(mean: Result, results: Sequence[Result]) -> dict[str, Measure]:
    count = len(mean.cases)
    predictions = list(predictions_by_task(mean).values())
    specificity = mean.protocol["specificity"]
    groups = patients_of(mean.cases)
    enough = len(np.unique(groups)) >= LEAST_CASES
    intervals = mean_intervals(predictions, count, specificity, **mean.bootstrap, groups=groups) if enough else {}
    return {
        measure: measure_of(
            np.mean([_by_seed(result.measures[measure]) for result in results], axis=0).tolist(),
            intervals.get(measure),
            count,
            mean.seeds,
        )
        for measure in results[0].measures
    }


def _by_seed(measure: Measure) -> NDArray[np.float64]:
    return np.atleast_1d(np.asarray(measure.by_seed or measure.mean, dtype=np.float64))


def _cases(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The cases of all, by id: each with its labels and probabilities of the tasks that it takes part in."""
    cases: dict[str, dict[str, Any]] = {}
    for result in results:
        for case in result.cases:
            new = {**case, "label": {}, "probabilities": {}}
            own = cases.setdefault(case["id"], new)
            for what in ("label", "probabilities"):
                own[what][result.task] = case[what]
    return [cases[case_id] for case_id in sorted(cases)]


def _shared(protocols: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The settings of all; one that differs, such as the depth of the training cases, as a list by task."""
    first = protocols[0]
    return {
        name: value if all(each[name] == value for each in protocols) else [each[name] for each in protocols]
        for name, value in first.items()
    }

"""Predicted probabilities, read back from a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.metrics.bootstrap import groups_of
from featlift.metrics.classification_bootstrap import Predictions
from featlift.results.result import Result


def predictions_of(result: Result) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """True classes ``(N,)`` and probabilities ``(seeds, N, classes)`` of a result of k-NN or a probe.

    Raises:
        OptionError: it is the mean of several tasks.
    """
    if isinstance(result.details["classes"], dict):
        raise OptionError(f"{result.name} is the {result.task} tasks: read it with predictions_by_task")
    (only,) = predictions_by_task(result).values()
    return only.labels, only.probabilities


def patients_of(cases: Sequence[Mapping[str, Any]]) -> NDArray[np.intp]:
    """Which patient each case of a result is of, numbered, ``(N,)``; a case without one is a patient of its own."""
    return groups_of([str(case.get("patient", case["id"])) for case in cases])


def predictions_by_task(result: Result) -> dict[str, Predictions]:
    """What was predicted of each task of a result of k-NN or a probe: of several if it is their mean."""
    classes = result.details["classes"]
    if not isinstance(classes, dict):
        answers = [(row, case["label"], case["probabilities"]) for row, case in enumerate(result.cases)]
        return {result.task: _predictions(classes, answers)}
    return {
        task: _predictions(
            names,
            [
                (row, case["label"][task], case["probabilities"][task])
                for row, case in enumerate(result.cases)
                if task in case["label"]
            ],
        )
        for task, names in classes.items()
    }


def _predictions(classes: list[str], answers: Iterable[tuple[int, str, list[Any]]]) -> Predictions:
    rows, labels, probabilities = zip(*answers, strict=True)
    return Predictions(
        np.array(rows), np.array([classes.index(label) for label in labels]), np.array(probabilities).swapaxes(0, 1)
    )

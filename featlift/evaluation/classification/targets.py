"""What is learned at once: the classes of one task, or several findings, yes or no, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.evaluation.classification.labels import Task

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Targets:
    """Cases and what is known of them.

    Attributes:
        ids: of the cases, N.
        values: classes ``(N,)``; or findings ``(N, K)``: 0, 1, or nan for what is not known.
        parts: which cases of each split have any label.
        tested: of each task the cases of the last of these splits that have its label.
    """

    ids: Sequence[str]
    values: NDArray[np.int64] | NDArray[np.float32]
    parts: list[Rows]
    tested: list[Rows]

    @classmethod
    def of_classes(cls, task: Task, *splits: str) -> Targets:
        """The classes of a task, and the cases of some splits; raises as `Task.of`."""
        parts = task.of(*splits)
        return cls(task.ids, task.labels, parts, parts[-1:])

    @classmethod
    def of_findings(cls, tasks: Sequence[Task], *splits: str) -> Targets:
        """A column for each task.

        Raises:
            OptionError: one has more than two classes.
            InputError: as `Task.of`.
        """
        if several := [task.name for task in tasks if len(task.classes) > 2]:
            raise OptionError(
                f"findings are yes or no, and {several[0]} has more classes: predict it alone, with planecycle or abmil"
            )
        ids = sorted({case_id for task in tasks for case_id in task.ids})
        places = {case_id: row for row, case_id in enumerate(ids)}
        values = np.full((len(ids), len(tasks)), np.nan, dtype=np.float32)
        by_task = []
        for column, task in enumerate(tasks):
            rows = np.array([places[case_id] for case_id in task.ids])
            values[rows, column] = task.labels
            by_task.append([rows[members] for members in task.of(*splits)])
        parts = [np.unique(np.concatenate(members)) for members in zip(*by_task, strict=True)]
        return cls(ids, values, parts, [members[-1] for members in by_task])

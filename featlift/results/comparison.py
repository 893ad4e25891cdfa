"""Results side by side: means with their spread, and what each pair of them differs by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import get_args

from featlift.errors import OptionError
from featlift.metrics.bootstrap import RESAMPLES
from featlift.metrics.significance import holm
from featlift.results.columns import Column, columns_of, rows_of
from featlift.results.differences import Difference, Draws, Over, Value, difference_of, paired_over, value_of
from featlift.results.result import Result
from featlift.results.table import title

#: What is compared unless something else is asked for, by kind of evaluation.
_MEASURES = {
    "featdice": ("dice",),
    "dense-probe": ("dice", "hd95"),
    "segment": ("dice", "hd95"),
    "knn": ("auc",),
    "probe": ("auc", "accuracy"),
    "registration": ("dice", "hd95", "tre", "sdlogj"),
    "instances": ("voi", "arand"),
    "reconstruction": ("mae", "psnr", "ssim"),
}


@dataclass(frozen=True)
class Comparison:
    """Models x modes x tasks.

    Attributes:
        questions: evaluation with its task, and measure, as people call them.
        rows: what tells each from the others: model, mode, and what else differs.
        stores: names of the stores of each row.
        values: by row and question; None where a row has no such result.
        differences: of every pair of rows that have one.
    """

    questions: list[tuple[str, str]]
    rows: list[dict[str, str]]
    stores: list[str]
    values: list[list[Value | None]]
    differences: list[Difference]

    def name(self, row: int) -> str:
        """A row in one line: in what it differs from others."""
        differing = {key for key, value in self.rows[0].items() if any(other[key] != value for other in self.rows)}
        parts = [(key, value) for key, value in self.rows[row].items() if key in differing and value != "-"]
        return " ".join(value if key in ("model", "mode") else f"{key} {value}" for key, value in parts)


def compare(
    results: Sequence[Result],
    measures: Sequence[str] = (),
    over: Over | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Put results side by side that answer the same question, and test their differences.

    Args:
        results: read from files or just made.
        measures: to compare, by their names in the files; none takes the main ones of each evaluation.
        over: what is paired in the t-tests and gives the standard deviations; None takes cases, or seeds
            where a case has no value of its own, as of an AUC.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        OptionError: results that are of other cases, masks, labels, tasks or protocols than those beside them, or twice
            of the same features; a measure that none has; seeds that differ.
    """
    if over is not None and over not in get_args(Over):
        raise OptionError(f"over {over!r}: choose seeds or cases")
    columns = columns_of(results)
    rows = rows_of(columns)
    questions = [(column, measure) for column in columns for measure in _measures_of(column, measures)]
    if missing := [name for name in measures if all(name != measure for _, measure in questions)]:
        known = dict.fromkeys(name for result in results for name in result.measures)
        raise OptionError(f"measure {missing[0]!r}: the results have {', '.join(known)}")
    draws = Draws(seed, resamples)
    values, differences = [], []
    for question, (column, measure) in enumerate(questions):
        measured = [result for result in column.results if result.measures[measure].mean is not None]
        paired = paired_over(measured, measure, over)
        answers = [next((result for result in row if result in measured), None) for _, row in rows]
        values.append([None if answer is None else value_of(answer, measure, paired) for answer in answers])
        found = [
            replace(
                difference_of(second, first, measure, paired, draws),
                question=question,
                row=row,
                against=against,
            )
            for (against, first), (row, second) in combinations(enumerate(answers), 2)
            if first is not None and second is not None
        ]
        corrected = holm([difference.p for difference in found])
        differences += [replace(difference, p_holm=p) for difference, p in zip(found, corrected, strict=True)]
    return Comparison(
        [(column.title, title(measure)) for column, measure in questions],
        [name for name, _ in rows],
        [", ".join(dict.fromkeys(result.store for result in row)) for _, row in rows],
        [list(row) for row in zip(*values, strict=True)],
        differences,
    )


def _measures_of(column: Column, wanted: Sequence[str]) -> list[str]:
    held = [name for name in column.results[0].measures if all(name in result.measures for result in column.results)]
    names = wanted or _MEASURES.get(column.results[0].kind) or held[:1]
    return [name for name in names if name in held]

"""What a study found, in one file: from it the table and the figure can be made again, without results or features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featlift.errors import InputError, StoreError
from featlift.results.result import Measure, Result, name_of, read_result, result_of
from featlift.study.cells import Cell, Split, cells_of
from featlift.study.choosing import choose
from featlift.study.plan import Study
from featlift.version import __version__

FORMAT = 1
_DIGITS = 6


@dataclass(frozen=True)
class Row:
    """A score of the study.

    Attributes:
        split: on which it was made: ``val``, for choices, or ``test``.
        cohort: its name.
        arm: its name.
        values: options in which the arm differs from others, and ``model`` and ``cycle``.
        task: its name.
        layer: absolute index.
        features: what was scored.
        measure: the name of the one that is compared.
        chosen: whether it was taken into the report, or is of it.
        result: with all measures, and of the cases what pairs them.
    """

    split: Split
    cohort: str
    arm: str
    values: Mapping[str, Any]
    task: str
    layer: int
    features: str
    measure: str
    chosen: bool
    result: Result

    @property
    def found(self) -> Measure:
        """The measure that is compared."""
        return self.result.measures[self.measure]

    def at(self, axis: str) -> Any:
        """Where it lies along an option of the arms, or ``layer``; None for an arm that has no such value."""
        return self.layer if axis == "layer" else self.values.get(axis)


@dataclass(frozen=True)
class Summary:
    """All scores of a study, and what the arms cost.

    Attributes:
        name: what it asks.
        choice: task and options chosen over; None if nothing was chosen.
        baseline: name of the arm that the others are tested against, or empty.
        across: option along the figure's first axis.
        cost: along that of its second panel.
        rows: the scores.
        costs: by cohort and arm, of one volume, see `featlift.study.costs.Cost`.
    """

    name: str
    choice: Mapping[str, Any] | None
    baseline: str
    across: str
    cost: str
    rows: list[Row]
    costs: Mapping[str, Mapping[str, Mapping[str, Any]]]

    def report(self) -> list[Row]:
        """The rows of the split ``test``."""
        return [row for row in self.rows if row.split == "test"]


def summarise(study: Study, folder: Path) -> Summary:
    """Gather what a study whose cells are all scored has left in its folder.

    Raises:
        InputError: a result is missing.
    """
    chosen = choose(study, folder)
    rows = []
    if chosen is not None:
        taken = set(chosen)
        rows += [
            _row(cell, folder, (cell.cohort.name, cell.arm.name, cell.layer) in taken)
            for cell in cells_of(study, "val")
        ]
    rows += [_row(cell, folder, True) for cell in cells_of(study, "test", chosen)]
    choice = None if study.choice is None else {"task": study.choice.task, "over": list(study.choice.over)}
    costs = {
        cohort.name: {
            arm.name: json.loads(path.read_bytes())
            for arm in study.arms
            if (path := folder / "costs" / cohort.name / f"{name_of(arm.name)}.json").exists()
        }
        for cohort in study.cohorts
    }
    return Summary(study.name, choice, study.baseline, study.across, study.cost, rows, costs)


def _row(cell: Cell, folder: Path, chosen: bool) -> Row:
    result = _slim(read_result(cell.place(folder)), cell.task.measure)
    return Row(
        cell.split,
        cell.cohort.name,
        cell.arm.name,
        cell.values,
        cell.task.name,
        cell.layer,
        cell.features,
        cell.task.measure,
        chosen,
        result,
    )


def _slim(result: Result, measure: str) -> Result:
    """With nothing of the cases but what is compared."""
    kept = ("id", "label", "split", "probabilities", measure)
    cases = [{key: _rounded(value) for key, value in case.items() if key in kept} for case in result.cases]
    return replace(result, cases=cases)


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, _DIGITS) if isinstance(value, float) else value


def summary_json(summary: Summary) -> str:
    """The text that `read_summary` reads: a line for each row."""
    rows = [json.dumps(_row_as_json(row), ensure_ascii=False, allow_nan=False) for row in summary.rows]
    head = {key: value for key, value in vars(summary).items() if key != "rows"}
    text = json.dumps({"study": summary.name, "format": FORMAT, "featlift": __version__, **head}, indent=1)
    return text.removesuffix("\n}") + ',\n "rows": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"


def _row_as_json(row: Row) -> dict[str, Any]:
    return {**vars(row), "result": json.loads(row.result.as_json())}


def read_summary(path: str | Path) -> Summary:
    """Read what `summary_json` wrote.

    Raises:
        InputError: no such file.
        StoreError: it is no summary, or one of a later format.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; `featlift study` makes a study.json") from error
    except ValueError as error:
        raise StoreError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(document, dict) or "study" not in document or "rows" not in document:
        raise StoreError(f"{path}: not the summary of a study")
    if document.get("format") != FORMAT:
        raise StoreError(f"{path} has format {document.get('format')}, this featlift reads {FORMAT}: update it")
    for name in ("study", "format", "featlift"):
        document.pop(name, None)
    try:
        rows = [Row(**{**row, "result": result_of(row["result"])}) for row in document.pop("rows")]
        return Summary(**document, rows=rows)
    except (LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: a summary with a part missing or too many ({error})") from error

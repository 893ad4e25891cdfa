"""A study's table in Markdown: the report with its tests and costs, then what the choices were made by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from featlift.metrics.bootstrap import RESAMPLES
from featlift.metrics.significance import holm
from featlift.results.differences import Difference, Draws, difference_of, paired_over
from featlift.results.table import text_of, title
from featlift.study.plan import is_called
from featlift.study.planes import foreign_blocks
from featlift.study.summary import Row, Summary


def summary_text(summary: Summary) -> str:
    """The tables of a study, and what was chosen and tested how."""
    parts = [f"# {summary.name}", _how(summary)]
    for (cohort, task), rows in _by_question(summary.report()):
        parts += [f"## {cohort}: {task}, on the split test", _markdown(_report(summary, rows))]
    if summary.choice:
        for (cohort, task), rows in _by_question(row for row in summary.rows if row.split == "val"):
            parts += [f"## {cohort}: {task}, on the split val: what choices were made by", _markdown(_choices(rows))]
    if costs := _costs(summary):
        parts += ["## What one volume costs", _markdown(costs)]
    return "\n\n".join(parts) + "\n"


def tests_of(summary: Summary, rows: Sequence[Row]) -> dict[int, tuple[Difference, float]]:
    """By number of the row its difference from the baseline's stored features, and p corrected for all of them."""
    if not summary.baseline:
        return {}
    base = next((row for row in rows if is_called(row.arm, summary.baseline) and row.features == "stored"), None)
    if base is None:
        return {}
    found, draws = {}, Draws(0, RESAMPLES)
    for number, row in enumerate(rows):
        if row is not base and row.found.mean is not None and base.found.mean is not None:
            over = paired_over([row.result, base.result], row.measure, None)
            found[number] = difference_of(row.result, base.result, row.measure, over, draws)
    corrected = holm([difference.p for difference in found.values()])
    return {number: (found[number], p) for number, p in zip(found, corrected, strict=True)}


def _how(summary: Summary) -> str:
    told = ["Nothing was chosen: every row is scored on the split test."]
    if summary.choice:
        over = ", ".join(summary.choice["over"])
        told = [
            f"The best {over} was chosen on the split val by the task {summary.choice['task']}.",
            "The split test was opened once, for what was chosen.",
            "Lifted layers that no foreign plane came before are those of 2d, and not chosen.",
        ]
    if summary.baseline:
        told.append(
            f"Differences are from `{summary.baseline}`: paired bootstrap over cases; p of paired t-tests, corrected "
            "by Holm within a table."
        )
    return " ".join([*told, "Intervals are 95 % by bootstrap over cases."])


def _report(summary: Summary, rows: Sequence[Row]) -> list[list[str]]:
    tests = tests_of(summary, rows)
    head = ["arm", "layer", "features", title(rows[0].measure), "cases", "plane", "foreign blocks"]
    head += [f"minus {summary.baseline}", "p (Holm)"] if tests else []
    table = [head]
    for number, row in enumerate(rows):
        line = [row.arm, str(row.layer), row.features, text_of(row.found), str(row.found.cases)]
        line += map(str, foreign_blocks(row.values, row.layer) or ("-", "-"))
        if tests:
            line += _tested(tests.get(number))
        table.append(line)
    return table


def _tested(found: tuple[Difference, float] | None) -> list[str]:
    if found is None:
        return ["-", "-"]
    difference, p = found
    interval = "" if difference.low is None else f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return [f"{difference.mean:+.3f}{interval}", "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"]


def _choices(rows: Sequence[Row]) -> list[list[str]]:
    """Arms and features down, layers across; what was chosen in bold."""
    layers = sorted({row.layer for row in rows})
    table = [["arm", "features", *(f"layer {layer}" for layer in layers)]]
    for (arm, features), found in _grouped(rows, lambda row: (row.arm, row.features)):
        cells = {row.layer: row for row in found}
        table.append([arm, features, *(_choice(cells.get(layer)) for layer in layers)])
    return table


def _choice(row: Row | None) -> str:
    if row is None:
        return "-"
    text = text_of(row.found, with_interval=False)
    return f"**{text}**" if row.chosen else text


def _costs(summary: Summary) -> list[list[str]]:
    head = ["cohort", "arm", "voxels lifted", "seconds", "GFLOP", "peak MB", "stored MB", "device"]
    table = [head]
    for cohort, arms in summary.costs.items():
        for arm, cost in arms.items():
            numbers = [f"{cost['seconds']:.2f}", f"{cost['operations'] / 1e9:,.0f}"]
            numbers += [f"{cost[key] / 1e6:,.0f}" for key in ("peak_bytes", "stored_bytes")]
            voxels = " x ".join(map(str, cost["shape"]))
            table.append([cohort, arm, voxels, *numbers, f"{cost['device']}, {cost['threads']} threads"])
    return table if len(table) > 1 else []


def _by_question(rows: Iterable[Row]) -> list[tuple[tuple[str, str], list[Row]]]:
    return _grouped(rows, lambda row: (row.cohort, row.task))


def _grouped(rows: Iterable[Row], key: Any) -> list[tuple[Any, list[Row]]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _markdown(table: Sequence[Sequence[str]]) -> str:
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)

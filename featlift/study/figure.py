"""A study's figure: scores across layers, sizes or networks, and against what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featlift.atomic_io import write_atomically
from featlift.results.table import title
from featlift.study.summary import Row, Summary

_COSTS = {
    "operations": ("GFLOP a volume", 1e9),
    "seconds": ("seconds a volume", 1.0),
    "peak_bytes": ("peak MB", 1e6),
    "stored_bytes": ("stored MB a volume", 1e6),
}
_MARKERS = "osD^vP*X<>"


def write_figures(summary: Summary, folder: Path) -> list[Path]:
    """Draw ``figure.svg`` and ``figure.png``; nothing where matplotlib is not installed.

    Two panels for each cohort and task: scores along the axis that the study names, on ``val`` where choices were made
    there; and the report's scores with their 95 % intervals, against the cost that the study names.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    questions = list(dict.fromkeys((row.cohort, row.task) for row in summary.rows))
    figure = Figure(figsize=(11, 4.2 * len(questions)), layout="constrained")
    panels = figure.subplots(len(questions), 2, squeeze=False)
    for (left, right), question in zip(panels, questions, strict=True):
        rows = [row for row in summary.rows if (row.cohort, row.task) == question]
        _draw_across(left, summary, rows)
        _draw_costs(right, summary, [row for row in rows if row.split == "test"])
        left.set_title(f"{question[0]}: {question[1]}", fontsize=10, loc="left")
    paths = [folder / f"figure.{suffix}" for suffix in ("svg", "png")]
    for path in paths:
        write_atomically(path, lambda draft: figure.savefig(draft, dpi=150))
    return paths


def _draw_across(panel: Any, summary: Summary, rows: Sequence[Row]) -> None:
    split = "val" if summary.choice else "test"
    rows = [row for row in rows if row.split == split and row.found.mean is not None]
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(_line(row, summary.across), []).append(row)
    places = _places([row.at(summary.across) for row in rows])
    for number, (name, found) in enumerate(lines.items()):
        points = sorted((places[str(row.at(summary.across))], row.found.mean) for row in found)
        marker = _MARKERS[number % len(_MARKERS)]
        if len(points) == 1:  # a control has no place of its own along the axis
            panel.axhline(points[0][1], color=f"C{number % 10}", linestyle=":", linewidth=1, label=name)
        else:
            panel.plot(*zip(*points, strict=True), marker=marker, color=f"C{number % 10}", markersize=5, label=name)
    if not all(isinstance(row.at(summary.across), (int, float)) for row in rows):
        panel.set_xticks(list(places.values()), list(places), fontsize=8)
    else:
        panel.set_xticks(sorted(set(places.values())))
    panel.set_xlabel(summary.across)
    if rows:
        panel.set_ylabel(f"{title(rows[0].measure)}, split {split}")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)


def _places(values: Sequence[Any]) -> dict[str, float]:
    """Where each value is drawn: numbers where they are, others in their order."""
    if all(isinstance(value, (int, float)) for value in values):
        return {str(value): float(value) for value in values}
    return {name: float(number) for number, name in enumerate(dict.fromkeys(map(str, values)))}


def _line(row: Row, across: str) -> str:
    """What a score has in common with those that are joined with it."""
    values = {key: value for key, value in row.values.items() if key != across}
    name = row.arm
    if across in row.values and across != "layer":
        name = " ".join(
            ",".join(map(str, value)) if isinstance(value, list) else str(value) for value in values.values()
        )
    return name if row.features == "stored" else f"{name}, {row.features}"


def _draw_costs(panel: Any, summary: Summary, rows: Sequence[Row]) -> None:
    label, unit = _COSTS[summary.cost]
    for number, row in enumerate(rows):
        cost = summary.costs.get(row.cohort, {}).get(row.arm)
        if cost is None or row.found.mean is None:
            continue
        at, found = cost[summary.cost] / unit, row.found
        color, marker = f"C{number % 10}", _MARKERS[number % len(_MARKERS)]
        if found.low is not None and found.high is not None:
            panel.plot([at, at], [found.low, found.high], color=color, linewidth=1)
        name = f"{row.arm}, layer {row.layer}" + ("" if row.features == "stored" else f", {row.features}")
        panel.plot([at], [found.mean], marker, color=color, markersize=6, label=name)
    only = {row.arm for row in rows}
    for arm, cost in summary.costs.get(rows[0].cohort, {}).items() if rows else ():
        if arm not in only and all(arm != row.arm for row in summary.rows):
            panel.axvline(
                cost[summary.cost] / unit, color="0.6", linestyle="--", linewidth=1, label=f"{arm}: cost only"
            )
    panel.set_xlabel(label)
    panel.set_xscale("log")
    if rows:
        panel.set_ylabel(f"{title(rows[0].measure)}, split test")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)

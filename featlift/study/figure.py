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
_DASHES = ("--", ":", "-.", (0, (5, 1)), (0, (1, 3)))
_WIDE = 5  # times: costs that far apart are drawn by their logarithms


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
    figure = Figure(figsize=(11, 5.5 * len(questions)), layout="constrained")
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
    across, split = summary.across, "val" if summary.choice else "test"
    rows = [row for row in rows if row.split == split and row.found.mean is not None]
    lines: dict[str, dict[str, float]] = {}
    for row in rows:
        points = lines.setdefault(_line(row, rows, across), {})
        place = str(row.at(across))  # of several layers there the best, as a choice would take it
        points[place] = max(points.get(place, -1e9), row.found.mean or 0.0)
    places = _places([row.at(across) for row in rows])
    for number, (name, points) in enumerate(lines.items()):
        marker, color = _MARKERS[number % len(_MARKERS)], f"C{number % 10}"
        found = sorted((places[place], mean) for place, mean in points.items())
        if len(found) == 1:  # a control has no place of its own along the axis
            panel.axhline(found[0][1], color=color, linestyle=":", linewidth=1, label=name)
        else:
            panel.plot(*zip(*found, strict=True), marker=marker, color=color, markersize=5, label=name)
    panel.set_xticks(list(places.values()), list(places), fontsize=8)
    best = "" if across == "layer" else ", best layer"
    panel.set_xlabel(across)
    panel.set_ylabel(f"{title(rows[0].measure) if rows else ''}, split {split}{best}")
    _finish(panel)


def _places(values: Sequence[Any]) -> dict[str, float]:
    """Where each value is drawn: numbers where they are, others in their order."""
    if all(isinstance(value, (int, float)) for value in values):
        return {str(value): float(value) for value in sorted(values)}
    return {name: float(number) for number, name in enumerate(dict.fromkeys(map(str, values)))}


def _line(row: Row, rows: Sequence[Row], across: str) -> str:
    """What a score has in common with those that are joined with it: the options in which these differ from others."""
    name = row.arm
    if across != "layer" and across in row.values:
        told = [key for key in row.values if key != across and len({str(other.values.get(key)) for other in rows}) > 1]
        name = " ".join(_said(row.values[key]) for key in told) or "all"
    return name if row.features == "stored" else f"{name}, {row.features}"


def _said(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _draw_costs(panel: Any, summary: Summary, rows: Sequence[Row]) -> None:
    label, unit = _COSTS[summary.cost]
    costs = summary.costs.get(rows[0].cohort, {}) if rows else {}
    drawn = []
    for number, row in enumerate(row for row in rows if row.arm in costs and row.found.mean is not None):
        at, found = costs[row.arm][summary.cost] / unit, row.found
        color, marker = f"C{number % 10}", _MARKERS[number % len(_MARKERS)]
        if found.low is not None and found.high is not None:
            panel.plot([at, at], [found.low, found.high], color=color, linewidth=1)
        name = f"{row.arm}, layer {row.layer}" + ("" if row.features == "stored" else f", {row.features}")
        panel.plot([at], [found.mean], marker, color=color, markersize=6, label=name)
        drawn.append(at)
    scored = {row.arm for row in summary.rows}
    for number, (arm, cost) in enumerate((arm, cost) for arm, cost in costs.items() if arm not in scored):
        at = cost[summary.cost] / unit
        panel.axvline(at, color="0.5", linestyle=_DASHES[number % len(_DASHES)], linewidth=1, label=f"{arm}: cost only")
        drawn.append(at)
    if drawn and max(drawn) > _WIDE * min(drawn):
        panel.set_xscale("log")
    elif drawn:
        panel.set_xlim(0, 1.1 * max(drawn))
    panel.set_xlabel(label)
    panel.set_ylabel(f"{title(rows[0].measure) if rows else ''}, split test")
    _finish(panel)


def _finish(panel: Any) -> None:
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False)

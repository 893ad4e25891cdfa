"""A study's figure: scores across layers, sizes or networks, and against what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featlift.atomic_io import write_atomically
from featlift.results.table import title
from featlift.study.cells import is_control
from featlift.study.summary import Row, Summary

_COSTS = {
    "operations": ("GFLOP a volume", 1e9),
    "seconds": ("seconds a volume", 1.0),
    "peak_bytes": ("peak MB", 1e6),
    "stored_bytes": ("stored MB a volume", 1e6),
}
_MARKERS = "osD^vP*X<>"
_DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 3)))
_LONG = 36  # letters of a name in the legend
_NARROW = 22  # letters of a place along the axis
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
    figure = Figure(figsize=(11, 5 * len(questions)), layout="constrained")
    panels = figure.subplots(len(questions), 2, squeeze=False)
    for (left, right), question in zip(panels, questions, strict=True):
        rows = [row for row in summary.rows if (row.cohort, row.task) == question and row.found.mean is not None]
        _draw_across(left, summary, rows)
        _draw_costs(right, summary, [row for row in rows if row.split == "test"])
        left.set_title(f"{question[0]}: {question[1]}", fontsize=10, loc="left")
    paths = [folder / f"figure.{suffix}" for suffix in ("svg", "png")]
    for path in paths:
        write_atomically(path, lambda draft: figure.savefig(draft, dpi=150))
    return paths


class _Style:
    """A colour for each arm, a marker and a dash for each kind of features; controls of no network are grey."""

    def __init__(self, lines: Sequence[tuple[str, str]]) -> None:
        self._arms = list(dict.fromkeys(arm for arm, features in lines if not is_control(features)))
        self._features = list(dict.fromkeys(features for _, features in lines))

    def of(self, arm: str, features: str) -> dict[str, Any]:
        """Of a line or a point."""
        number = self._features.index(features)
        color = "0.4" if is_control(features) else f"C{self._arms.index(arm) % 10}"
        return {"color": color, "marker": _MARKERS[number % len(_MARKERS)], "linestyle": _DASHES[number % len(_DASHES)]}

    def explain(self, panel: Any) -> None:
        """A legend: colours, then markers."""
        from matplotlib.lines import Line2D

        shown = [Line2D([], [], color=f"C{number % 10}", label=arm) for number, arm in enumerate(self._arms)]
        shown += [
            Line2D([], [], **{**self.of(self._arms[0], name), "color": "0.4"}, label=name) for name in self._features
        ]
        shown += [line for line in panel.get_lines() if not str(line.get_label()).startswith("_")]
        panel.grid(alpha=0.3)
        columns = 1 if max(len(str(line.get_label())) for line in shown) > _LONG else 2
        below = {"loc": "upper left", "bbox_to_anchor": (0, -0.14), "frameon": False, "ncols": columns}
        panel.legend(handles=shown, fontsize=7, **below)


def _draw_across(panel: Any, summary: Summary, rows: Sequence[Row]) -> None:
    across, split = summary.across, "val" if summary.choice else "test"
    rows = [row for row in rows if row.split == split]
    lines: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        points = lines.setdefault((_line(row, rows, across), row.features), {})
        place = str(row.at(across))  # of several layers there the best, as a choice would take it
        points[place] = max(points.get(place, -1e9), row.found.mean or 0.0)
    places, style = _places([row.at(across) for row in rows]), _Style(list(lines))
    for (arm, features), points in lines.items():
        found = sorted((places[place], mean) for place, mean in points.items())
        how = style.of(arm, features)
        if is_control(features):  # it has no place of its own along the axis
            panel.axhline(found[0][1], color=how["color"], linestyle=how["linestyle"], linewidth=1)
        else:
            panel.plot(*zip(*found, strict=True), markersize=5, linewidth=1.2, **how)
    panel.set_xticks(list(places.values()), [_short(place) for place in places], fontsize=8)
    best = "" if across == "layer" else ", best layer"
    panel.set_xlabel(across)
    panel.set_ylabel(f"{title(rows[0].measure) if rows else ''}, split {split}{best}")
    style.explain(panel)


def _places(values: Sequence[Any]) -> dict[str, float]:
    """Where each value is drawn: numbers where they are, others in their order."""
    if all(isinstance(value, (int, float)) for value in values):
        return {str(value): float(value) for value in sorted(values)}
    return {name: float(number) for number, name in enumerate(dict.fromkeys(map(str, values)))}


def _short(name: str) -> str:
    """A place along the axis; of a network in a folder its kind and the end of its path."""
    folders, _, last = name.rpartition("/")
    text = f"{folders.partition(':')[0]}:{last}" if ":" in folders else last
    return text if len(text) <= _NARROW else f"{text[: _NARROW - 1]}…"


def _line(row: Row, rows: Sequence[Row], across: str) -> str:
    """What an arm has in common with those that are joined with it: the options in which these differ from others."""
    if across == "layer" or across not in row.values:
        return row.arm
    told = [key for key in row.values if key != across and len({str(other.values.get(key)) for other in rows}) > 1]
    return " ".join(_said(row.values[key]) for key in told) or "all"


def _said(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _draw_costs(panel: Any, summary: Summary, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import LogLocator

    label, unit = _COSTS[summary.cost]
    costs = summary.costs.get(rows[0].cohort, {}) if rows else {}
    rows = [row for row in rows if row.arm in costs]
    style, drawn = _Style([(f"{row.arm}, layer {row.layer}", row.features) for row in rows]), []
    for row in rows:
        at, found = costs[row.arm][summary.cost] / unit, row.found
        how = style.of(f"{row.arm}, layer {row.layer}", row.features)
        if found.low is not None and found.high is not None:
            panel.plot([at, at], [found.low, found.high], color=how["color"], linewidth=1)
        panel.plot([at], [found.mean], how["marker"], color=how["color"], markersize=6)
        drawn.append(at)
    scored = {row.arm for row in summary.rows}
    for number, (arm, cost) in enumerate((arm, cost) for arm, cost in costs.items() if arm not in scored):
        at = cost[summary.cost] / unit
        panel.axvline(at, color="0.5", linestyle=_DASHES[1 + number % 4], linewidth=1, label=f"{arm}: cost only")
        drawn.append(at)
    if drawn and max(drawn) > _WIDE * min(drawn):
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
    elif drawn:
        panel.set_xlim(0, 1.1 * max(drawn))
    panel.set_xlabel(label)
    panel.set_ylabel(f"{title(rows[0].measure) if rows else ''}, split test")
    style.explain(panel)

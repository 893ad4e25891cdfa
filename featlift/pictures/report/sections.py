"""The parts of a report that stand still, as HTML. Every text of a store is escaped: ids and labels are anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from itertools import groupby
from typing import Any

import numpy as np

from featlift.pictures.report.charts import constant, histogram, intensity_band, share_bars
from featlift.pictures.report.cohort import GEOMETRY, Cohort
from featlift.pictures.report.outliers import FEWEST
from featlift.results.table import table_rows
from featlift.store.layout import differing_fields, saved_in

_KINDS = {"featdice": "FeatDice", "knn": "k-NN", "probe": "Linear probe", "dense-probe": "Dense probe"}


def summary(cohort: Cohort) -> str:
    """One sentence on what the stores are."""
    recipe = cohort.stores[0].recipe
    modes = ", ".join(dict.fromkeys(str(store.recipe["mode"]) for store in cohort.stores))
    models = ", ".join(dict.fromkeys(str(store.recipe["model"]) for store in cohort.stores))
    layers = ", ".join(map(str, recipe["layers"]))
    return f"{models} · mode {modes} · layer{'s' if len(recipe['layers']) > 1 else ''} {layers}"


def key_figures(cohort: Cohort) -> str:
    """What a reader asks first, each with the way to its section."""
    failed = len({case_id for failures in cohort.failures.values() for case_id in failures})
    outliers = len({outlier.id for outlier in cohort.outliers})
    tiles = [
        ("cases", len(cohort.ids), "cases" if len(cohort.ids) != 1 else "case", ""),
        ("failures", failed, "missing or damaged", " bad" if failed else ""),
        ("spread", _known_geometry(cohort), "with known geometry", ""),
    ]
    if len(cohort.ids) >= FEWEST:
        tiles.insert(2, ("outliers", outliers, "unlike the others", ""))
    if cohort.results:
        tiles.append(("results", len(cohort.results), "results" if len(cohort.results) != 1 else "result", ""))
    return "".join(
        f'<a class="tile{kind}" href="#{where}"><b>{number:,}</b> {what}</a>' for where, number, what, kind in tiles
    )


def _known_geometry(cohort: Cohort) -> int:
    return int(np.isfinite(cohort.geometry["spacing_d"]).sum())


def spread(cohort: Cohort) -> str:
    """Classes, geometry and intensities; what all cases share is said in words."""
    charts, numbers = [], []
    for column in cohort.labels:
        if column.classes:
            counts = {name: column.values.count(float(place)) for place, name in enumerate(column.classes)}
            charts.append(share_bars(column.name, counts))
        else:
            numbers.append((column.name, np.array([np.nan if v is None else v for v in column.values]), ""))
    numbers += [(title, cohort.geometry[name], unit) for name, (title, unit) in GEOMETRY.items()]
    windows = [seen.window for seen in cohort.portraits.values() if seen.window is not None]
    for number in range(2 if windows else 0):
        values = np.array([window[number] for window in windows])
        numbers.append((f"value of the file that became {number}", values, ""))
    shared = []
    for title, values, unit in numbers:
        if same := constant(values):
            shared.append(f"{escape(title)} <b>{same}</b> {unit}".strip())
        elif np.isfinite(values).any():
            charts.append(histogram(title[0].upper() + title[1:], values, unit))
    spreads = [seen.intensities for seen in cohort.portraits.values() if seen.intensities is not None]
    if spreads:
        charts.append(intensity_band(np.stack(spreads)))
    lead = "The same in every case: " if len(cohort.ids) > 1 else ""
    words = f'<p class="shared">{lead}{" · ".join(shared)}</p>' if shared else ""
    return f'<div class="charts">{"".join(charts)}</div>{words}'


def results(cohort: Cohort) -> str:
    """A table for each kind of evaluation."""
    parts = []
    for kind, found in groupby(sorted(cohort.results, key=lambda result: result.kind), key=lambda result: result.kind):
        header, *rows = table_rows(list(found))
        parts.append(f"<h3>{escape(_KINDS.get(kind, kind))}</h3>{_table(header, rows)}")
    if cohort.others:
        parts.append(f'<p class="soft">{cohort.others} results of other stores or recipes are left out.</p>')
    return "".join(parts)


def failures(cohort: Cohort) -> str:
    """Every case that is missing or damaged, with the reason."""
    rows = [[store, case_id, reason] for store, each in cohort.failures.items() for case_id, reason in each.items()]
    return _table(["store", "case", "reason"], rows) if rows else ""


def runs(cohort: Cohort) -> str:
    """What was run, and when."""
    rows = []
    for store, records in cohort.runs.items():
        for record in records:
            volumes = record.get("volumes") or {}
            versions = record.get("versions") or {}
            rows.append(
                [
                    store,
                    _time(record.get("started")),
                    _seconds(record.get("seconds")),
                    ", ".join(f"{count} {what}" for what, count in volumes.items()),
                    str(record.get("device", "")),
                    ", ".join(
                        f"{name} {versions[name]}" for name in ("featlift", "torch", "timm") if versions.get(name)
                    ),
                ]
            )
    return _table(["store", "started", "took", "volumes", "device", "versions"], rows) if rows else ""


def recipes(cohort: Cohort) -> str:
    """The recipe of each store, side by side; rows in which they differ are marked."""
    names = sorted({name for store in cohort.stores for name in store.recipe})
    first = cohort.stores[0].recipe
    differing = {field.split(" ")[0] for store in cohort.stores[1:] for field in differing_fields(first, store.recipe)}
    rows = [
        [
            name,
            *(
                _value(list(saved_in(store.recipe)) if name == "save" else store.recipe.get(name))
                for store in cohort.stores
            ),
        ]
        for name in names
        if any(store.recipe.get(name) not in (None, [], {}) for store in cohort.stores)
    ]
    return _table(["", *(store.name for store in cohort.stores)], rows, marked=differing)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], marked: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = "".join(
        f"<tr{' class=differs' if row[0] in marked else ''}>"
        + "".join(f"<td>{escape(text)}</td>" for text in row)
        + "</tr>"
        for row in rows
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{each:.4g}" if isinstance(each, float) else str(each) for each in value)
    return "none" if value is None else str(value)


def _time(text: Any) -> str:
    try:
        return datetime.fromisoformat(str(text)).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return str(text)


def _seconds(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"

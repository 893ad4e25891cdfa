"""The page as one file that needs nothing else."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError
from featlift.pictures.pages import policy, script_of, style_of, text_of
from featlift.pictures.report import sections
from featlift.pictures.report.cohort import Cohort
from featlift.pictures.report.outliers import strangest
from featlift.version import __version__

_TIMES = " \N{MULTIPLICATION SIGN} "
_SCRIPTS = ("elements", "theme", "card", "map", "gallery", "report")


def write_report(cohort: Cohort, path: str | Path, label: str | None = None) -> None:
    """Write a cohort as one HTML file: it makes no request, and opens without a network.

    Args:
        cohort: what to tell.
        path: of the file, which appears whole or not at all.
        label: the column that colours the map at first; by default ``label``, or else the first.

    Raises:
        OptionError: no such column.
        OutputError: it cannot be written.
    """
    page = _page(cohort, _chosen(cohort, label))
    write_atomically(Path(path), lambda draft: draft.write_text(page, encoding="utf-8"))


def _chosen(cohort: Cohort, label: str | None) -> int:
    """Index of the column that colours the map; -1 without any."""
    names = [column.name for column in cohort.labels]
    if label is not None and label not in names:
        raise OptionError(f"--label {label}: the columns are {', '.join(names) or 'none; give a CSV as --labels'}")
    wanted = label or "label"
    return names.index(wanted) if wanted in names else min(0, len(names) - 1)


def _page(cohort: Cohort, chosen: int) -> str:
    style, script = style_of(__package__, "report.css"), script_of(__package__, _SCRIPTS)
    parts = {
        "policy": policy(script, style, "img-src data:"),
        "title": escape(", ".join(store.name for store in cohort.stores)),
        "style": style,
        "script": script,
        "version": __version__,
        "summary": escape(sections.summary(cohort)),
        "figures": sections.key_figures(cohort),
        "spread": sections.spread(cohort),
        "results": sections.results(cohort),
        "failures": sections.failures(cohort),
        "runs": sections.runs(cohort),
        "recipes": sections.recipes(cohort),
        # no case id can break out of it: JSON has no need of a "<"
        "data": json.dumps(_data(cohort, chosen), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    }
    page = text_of(__package__, "report.html")
    before, *rest = page.split("{{")  # replaced one by one, what was put in could hold a placeholder itself
    return before + "".join(parts[name] + after for name, after in (part.split("}}", 1) for part in rest))


def _data(cohort: Cohort, chosen: int) -> dict[str, Any]:
    """What the script draws: maps, pictures and labels of cases, which are known by their place in ``ids``."""
    listed, strange = strangest(cohort.outliers)
    names = [store.name.removesuffix(".zarr") for store in cohort.pictured]
    places = {case_id: place for place, case_id in enumerate(cohort.ids)}
    return {
        "ids": cohort.ids,
        "facts": [_facts(cohort, row) for row in range(len(cohort.ids))],
        "columns": [{"name": each.name, "classes": each.classes, "values": each.values} for each in cohort.labels],
        "chosen": chosen,
        "tiles": ["scan", *(names if len(names) > 1 else ["PCA"])],
        "maps": [
            {
                "name": f"{each.name} of {each.store}",
                "about": each.about,
                "cases": [places[case_id] for case_id in each.ids],
                "x": [float(f"{x:.4g}") for x in each.places[:, 0]],
                "y": [float(f"{y:.4g}") for y in each.places[:, 1]],
            }
            for each in cohort.maps
        ],
        "outliers": [[places[each.id], each.reason] for each in listed],
        "strange": strange,
        "pictures": {places[case_id]: seen.tiles for case_id, seen in cohort.portraits.items()},
    }


def _facts(cohort: Cohort, row: int) -> str:
    """Shape and spacing of a case; nothing where only vectors are known."""
    sizes = [cohort.geometry[name][row] for name in ("depth", "height", "width")]
    spacing = [cohort.geometry[name][row] for name in ("spacing_d", "spacing_h", "spacing_w")]
    if not np.isfinite(sizes).all():
        return ""
    shape = _TIMES.join(f"{size:.0f}" for size in sizes)
    return shape + (f" · {_TIMES.join(f'{step:.3g}' for step in spacing)} mm" if np.isfinite(spacing).all() else "")

"""The files of a summary: JSON, table and figure."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from featlift.atomic_io import write_atomically
from featlift.study.figure import write_figures
from featlift.study.summary import Summary, summary_json
from featlift.study.text import summary_text


def write_summary(summary: Summary, folder: str | Path) -> None:
    """Write ``study.json``, ``table.md`` and, where matplotlib is installed, ``figure.svg`` and ``figure.png``.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    for name, text in (("study.json", summary_json(summary)), ("table.md", summary_text(summary))):
        write_atomically(folder / name, partial(Path.write_text, data=text, encoding="utf-8"))
    write_figures(summary, folder)

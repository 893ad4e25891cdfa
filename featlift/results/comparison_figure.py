"""A comparison as a figure: means with their intervals, and every seed."""

from __future__ import annotations

from pathlib import Path

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError
from featlift.results.comparison import Comparison

_SUFFIXES = (".svg", ".png", ".pdf")


def write_figure(comparison: Comparison, path: str | Path) -> None:
    """Draw a panel for each question: a row's mean as a dot on its 95 % interval over cases, its seeds below.

    Args:
        comparison: of results.
        path: its suffix says the format: .svg, .png or .pdf.

    Raises:
        OptionError: another suffix, or matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"--figure {path}: give a file that ends in {', '.join(_SUFFIXES)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError("--figure needs matplotlib: pip install 'featlift[pictures]'") from error
    count, rows = len(comparison.questions), len(comparison.rows)
    names = [comparison.name(row) for row in range(rows)]
    beside = 0.08 * max(map(len, names))  # inches that the names take
    figure = Figure(figsize=(0.5 + beside + 3 * count, 1.2 + 0.4 * rows), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for number, (panel, (asked, measure)) in enumerate(zip(panels, comparison.questions, strict=True)):
        for row, values in enumerate(comparison.values):
            value = values[number]
            if value is None or value.mean is None:
                continue
            if value.low is not None and value.high is not None:
                panel.plot([value.low, value.high], [row, row], color="tab:blue", linewidth=2)
            panel.plot([value.mean], [row], "o", color="tab:blue")
            if len(value.by_seed) > 1:
                panel.plot(value.by_seed, [row + 0.2] * len(value.by_seed), "|", color="tab:gray")
        panel.set_title(asked, fontsize=9)
        panel.set_xlabel(measure)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(rows), names, fontsize=9)
    panels[0].set_ylim(rows - 0.5, -0.5)
    write_atomically(path, lambda draft: figure.savefig(draft, dpi=200))

"""Loss and what validation measured by epoch, as a CSV and, where matplotlib is installed, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from featlift.atomic_io import write_atomically
from featlift.tables import write_table

_NAME = "curves"
_NAMES = {"dice": "Dice", "auc": "AUC"}  # both lie between 0 and 1


def write_curves(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write ``curves.csv``, a row an epoch: epoch, loss, what validation measured, rate, seconds."""
    write_table(folder / f"{_NAME}.csv", list(rows[0]), [list(row.values()) for row in rows])


def draw_curves(folder: Path, rows: Sequence[Mapping[str, float]], measure: str = "dice") -> bool:
    """Draw ``curves.svg`` with the column `measure`; False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(6, 3), layout="constrained")
    FigureCanvasSVG(figure)
    loss = figure.add_subplot()
    validated, name = loss.twinx(), _NAMES.get(measure, "loss")
    epochs = [row["epoch"] for row in rows]
    (first,) = loss.plot(epochs, [row["loss"] for row in rows], color="#b04a2f", label="training loss")
    (second,) = validated.plot(epochs, [row[measure] for row in rows], color="#2f5fb0", label=f"validation {name}")
    loss.set(xlabel="epoch", ylabel="training loss")
    validated.set(ylabel=f"validation {name}", ylim=(0, 1) if measure in _NAMES else None)
    loss.legend(handles=[first, second], loc="center right", frameon=False)
    write_atomically(folder / f"{_NAME}.svg", lambda draft: figure.savefig(draft, format="svg"))
    return True

"""Figures of planes: rows of what is shown of a volume, every plane in the patient's proportions and at one scale."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.drawing.anatomy import View, views
from featlift.errors import OptionError
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine

_WIDTH = 7.2  # inches: a page of two columns
_TALLEST = 9.0
_LABELS = 0.28  # inches on the left for the names of rows
_EDGE, _GAP = 0.06, 0.05
_LOW = 0.6  # a panel of less height has its texts side by side
_LINE = 0.115  # of small print
_LETTERS_AN_INCH = 20  # of small print
_INK = {False: ("white", "#1a1a1a", "#666666"), True: ("#101214", "#f0f0f0", "#a0a0a0")}  # page, text, small print
_NAMED = 6  # labels in the legend
_MANY = 20  # labels in a plane, from where on lines are thin
_OUTLINES = ("#ffd60a", "#00d5ff", "#ff5db1", "#7cff6b", "#ff8a3d", "#b69cff")


def laid_out(
    names: Sequence[str], shape: Shape, affine: Affine | None, small_print: str, dark: bool = False
) -> tuple[Any, list[tuple[str, View, Any]]]:
    """A figure with a row for each name, whose panels show the planes of a volume at the same mm per inch.

    Args:
        names: of the rows.
        shape: (D, H, W) of the volume.
        affine: of its voxels; None where the geometry is unknown.
        small_print: below the panels.
        dark: light on dark, for slides.

    Returns:
        The figure, and its panels with what they show: the name of the row and the plane.
    """
    from featlift.drawing.notebook_figure import NotebookFigure

    page, ink, small = _INK[dark]
    planes = list(views(affine).values())
    extents = [view.extent(shape) for view in planes]
    columns = _columns(extents)
    tall = max(height for height, _ in extents)
    wide = sum(max(extents[number][1] for number in column) for column in columns)
    inch = min(  # of a mm
        (_WIDTH - _LABELS - (len(columns) - 1) * _GAP - _EDGE) / wide,
        (_TALLEST - 3 * _LINE - len(names) * _GAP) / (tall * len(names)),
    )
    width = _LABELS + inch * wide + (len(columns) - 1) * _GAP + _EDGE
    lines = wrap(small_print, int((width - _LABELS) * _LETTERS_AN_INCH))
    height = _EDGE + (len(lines) + 1) * _LINE + len(names) * (inch * tall + _GAP)
    figure = NotebookFigure(figsize=(width, height), facecolor=page)
    panels = []
    for row, name in enumerate(names):
        left, top = _LABELS, height - _EDGE - row * (inch * tall + _GAP)
        figure.text(
            _LABELS / 2 / width, (top - inch * tall / 2) / height, name,
            rotation=90, ha="center", va="center", fontsize=9, color=ink, parse_math=False,
        )  # fmt: skip
        for column in columns:
            # what is less tall than the tallest stands in the middle of its row, alone or above another
            filled = inch * sum(extents[number][0] for number in column) + (len(column) - 1) * _GAP
            above = top - (inch * tall - filled) / 2
            for number in column:
                down, across = (inch * length for length in extents[number])
                box = (left / width, (above - down) / height, across / width, down / height)
                panels.append((name, planes[number], figure.add_axes(box, facecolor="black")))
                above -= down + _GAP
            left += inch * max(extents[number][1] for number in column) + _GAP
    for name, view, panel in panels:
        is_first = name == names[0]
        _dress(panel, view, view.extent(shape), inch, is_first, is_first and view is planes[0])
    figure.text(
        _LABELS / width,
        _LINE / 2 / height,
        "\n".join(lines),
        fontsize=6,
        color=small,
        va="bottom",
        linespacing=1.3,
        parse_math=False,
    )
    return figure, panels


def _columns(extents: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Which planes stand in each column: side by side, or the second above the third if both fit beside the first."""
    first, second, third = (height for height, _ in extents)
    return [[0], [1, 2]] if second + third < 0.95 * first else [[0], [1], [2]]


def _dress(panel: Any, view: View, extent: tuple[float, float], inch: float, with_name: bool, with_scale: bool) -> None:
    """Letters of the sides of the patient, the name of the plane and a scale bar."""
    from matplotlib.patheffects import withStroke

    down, across = extent
    panel.set_xlim(0, across)
    panel.set_ylim(down, 0)
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)
    # a shade behind a text, because an outline would turn it into paths
    text = {"color": "white", "bbox": {"facecolor": "black", "alpha": 0.35, "linewidth": 0, "pad": 0.8}}
    if view.letters is not None:
        places = ((0.5, 0.985, "center", "top"), (0.985, 0.5, "right", "center"),
                  (0.5, 0.015, "center", "bottom"), (0.015, 0.5, "left", "center"))  # fmt: skip
        for letter, (x, y, beside, above) in zip(view.letters, places, strict=True):
            panel.text(
                x, y, letter, transform=panel.transAxes, ha=beside, va=above, fontsize=7, **text
            )  # fmt: skip
    if with_name:
        start = 0.02 if inch * down > _LOW else 0.22 / (inch * across)  # not above the letter of the left side
        panel.text(
            start, 0.98, view.name, transform=panel.transAxes, ha="left", va="top", fontsize=7, **text
        )  # fmt: skip
    if with_scale and view.letters is not None:
        length, told = _scale(across / 3)
        right, low = 0.94 * across, 0.94 * down
        panel.plot(
            [right - length, right], [low, low], color="white", linewidth=2, solid_capstyle="butt",
            path_effects=[withStroke(linewidth=3.2, foreground="black")],
        )  # fmt: skip
        panel.text(
            right - length / 2, low - 0.015 * down, told, ha="center", va="bottom", fontsize=6.5,
            **text,
        )  # fmt: skip


def _scale(most: float) -> tuple[float, str]:
    """The longest bar of 1, 2, 5, 10, ... of a unit that is not longer, in millimetres, and what it is called."""
    unit, size = next(((unit, size) for unit, size in (("mm", 1.0), ("µm", 1e-3)) if most >= size), ("nm", 1e-6))
    power = 10.0 ** math.floor(math.log10(most / size))
    length = max(step * power for step in (1, 2, 5) if step == 1 or step * power * size <= most)
    return length * size, f"{length:g} {unit}"


def outline(
    panel: Any,
    labels: NDArray[Any],
    place: tuple[float, float, float, float],
    colour: str | None = None,
    width: float | None = None,
) -> None:
    """The border of every label, in its own colour, or in one for all and with a shade."""
    from matplotlib.patheffects import withStroke

    _, across, down, _ = place
    rows, columns = labels.shape
    labels = np.pad(labels, 1)  # which closes the borders of what reaches an edge of the picture
    x = (np.arange(columns + 2) - 0.5) * across / columns
    y = (np.arange(rows + 2) - 0.5) * down / rows
    found = np.unique(labels[labels != 0])
    width = width or (0.8 if len(found) <= _MANY else 0.5)
    shade = [withStroke(linewidth=width + 0.8, foreground="black")] if colour else None
    for label in found:
        drawn = panel.contour(
            x, y, labels == label, levels=[0.5], colors=[colour or label_colour(label)], linewidths=width
        )  # fmt: skip
        drawn.set(path_effects=shade)


def legend(panel: Any, names: Sequence[tuple[str, str]]) -> None:
    """What is outlined, with its colour."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=1.2, label=name) for name, colour in names[:_NAMED]]
    if len(names) > _NAMED:
        lines.append(Line2D([], [], linewidth=0, label=f"and {len(names) - _NAMED} more"))
    if lines:
        panel.legend(
            handles=lines, loc="lower left", fontsize=5.5, labelcolor="white", facecolor="black", framealpha=0.35,
            edgecolor="none", borderpad=0.3, handlelength=1, handletextpad=0.4, labelspacing=0.2,
        )  # fmt: skip


def label_colour(label: int) -> str:
    """Of the outlines of a label, from 1."""
    return _OUTLINES[(int(label) - 1) % len(_OUTLINES)]


@contextmanager
def styled() -> Iterator[None]:
    """Text stays text in SVG and PDF, so that a journal's font can replace it.

    Raises:
        OptionError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise OptionError("pictures need matplotlib: pip install 'featlift[pictures]'") from error
    fonts = ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"]
    text: dict[Any, Any] = {
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "font.family": "sans-serif",
        "font.sans-serif": fonts,
    }
    with rc_context(text), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name in another script
        yield

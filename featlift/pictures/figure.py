"""A case in its three planes: the scan, the features of each store in the colours of one basis, maps over the scan."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError
from featlift.pictures.anatomy import View, views
from featlift.pictures.colours import Colours
from featlift.pictures.fitting import Foreground
from featlift.pictures.overlay import overlay_of
from featlift.pictures.painting import Painting, scan_picture
from featlift.store.case import Case
from featlift.store.features import labels_of
from featlift.store.reading import Store
from featlift.volumes.grid import Shape
from featlift.volumes.reading import read
from featlift.volumes.volume import spacing_of

FORMATS = ("png", "svg", "pdf")
ANIMATIONS = ("gif", "webp")

_WIDTH = 7.2  # inches: a page of two columns
_TALLEST = 9.0
_LABELS = 0.28  # inches on the left for the names of rows
_EDGE, _GAP = 0.06, 0.05
_LOW = 0.6  # a panel of less height has its texts side by side
_LINE = 0.115  # of small print
_LETTERS_AN_INCH = 20  # of small print
_SCALES = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # lengths of a scale bar, mm
_VEIL = 0.6  # opacity of a map over the scan
_INK = {False: ("white", "#1a1a1a", "#666666"), True: ("#101214", "#f0f0f0", "#a0a0a0")}  # page, text, small print
_MANY = 20  # labels in a plane, from where on lines are thin
_OUTLINES = ("#ffd60a", "#00d5ff", "#ff5db1", "#7cff6b", "#ff8a3d", "#b69cff")


@dataclass(frozen=True, eq=False)
class CaseFigure:
    """A figure of one case.

    Attributes:
        case: whose scan is shown.
        rows: the features of each store, by the name that its row gets.
        labels: of a mask on the scan's grid ``(D, H, W)``, drawn as outlines; None for none.
        dark: light on dark, for slides.
        overlays: maps on the scan's grid ``(D, H, W)``, nan where there is none, by the name that each one's row gets.
    """

    case: Case
    rows: Mapping[str, Painting]
    labels: NDArray[np.int32] | None = None
    dark: bool = False
    overlays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stores: Sequence[Store],
        case_id: str,
        colours: Colours,
        layer: int | None = None,
        mask: str | Path | None = None,
        foreground: Foreground = "auto",
        dark: bool = False,
        overlays: Mapping[str, Path] | None = None,
    ) -> CaseFigure:
        """Read what is to be drawn of a case.

        Args:
            stores: a row each, named after their modes where these differ, or else after the stores.
            case_id: which case.
            colours: of the basis.
            layer: absolute index; None takes the deepest.
            mask: to outline.
            foreground: ``mask`` gives colours only to what the mask labels.
            dark: light on dark.
            overlays: files of maps, see `overlay_of`, by the name that each one's row gets.

        Raises:
            OptionError: no such case or layer.
            StoreError: its features are damaged.
            InputError: there is no such map.
            VolumeError: the mask or a map is damaged, empty, or of another place.
        """
        modes = [_mode(store) for store in stores]
        names = modes if len(set(modes)) == len(modes) else [store.name.removesuffix(".zarr") for store in stores]
        for store in stores:
            store.require_cases([case_id])
        case = stores[0][case_id]
        labels = None if mask is None else labels_of(case, read(mask))
        inside = labels != 0 if labels is not None and foreground == "mask" else None
        rows = {
            name: Painting.of(store[case_id], colours, layer, inside) for name, store in zip(names, stores, strict=True)
        }
        maps = {name: overlay_of(case, path) for name, path in (overlays or {}).items()}
        return cls(case, rows, labels, dark, maps)

    @property
    def middle(self) -> Shape:
        """(d, h, w) of the voxel in the middle of the foreground."""
        return next(iter(self.rows.values())).middle

    def write(self, path: str | Path, voxel: Sequence[int], dpi: int = 300) -> None:
        """Write the planes through one voxel.

        Args:
            path: ends in .png, .svg or .pdf.
            voxel: (d, h, w) of the stored scan.
            dpi: pixels an inch; a figure is at most 7.2 inches wide.

        Raises:
            OptionError: the voxel lies outside the scan.
            OutputError: the file cannot be written.
        """
        if any(not 0 <= index < size for index, size in zip(voxel, self.case.scan_shape, strict=True)):
            raise OptionError(f"{self.case.id}: no voxel {tuple(voxel)}; its scan has {self.case.scan_shape}")
        with _style():
            figure, show = self._laid_out()
            show(voxel)
            write_atomically(Path(path), lambda draft: figure.savefig(draft, dpi=dpi))

    def sweep(self, path: str | Path, frames: int = 48, fps: int = 8) -> None:
        """Write an animation that goes through all slices of the three planes at once.

        Args:
            path: ends in .gif or .webp.
            frames: of the animation.
            fps: frames a second.

        Raises:
            OutputError: the file cannot be written.
        """
        from matplotlib.animation import PillowWriter

        with _style():
            figure, show = self._laid_out()
            writer = PillowWriter(fps=fps)

            def animate(draft: Path) -> None:
                with writer.saving(figure, str(draft), dpi=110):
                    for share in np.linspace(0.04, 0.96, frames):
                        show([int(share * size) for size in self.case.scan_shape])
                        writer.grab_frame(facecolor=figure.get_facecolor())

            write_atomically(Path(path), animate)

    def _laid_out(self) -> tuple[Any, Callable[[Sequence[int]], None]]:
        """The figure, every panel of the same mm per inch, and a function that shows the planes through a voxel."""
        from matplotlib.figure import Figure

        page, ink, small = _INK[self.dark]
        planes = list(views(self.case.scan_affine).values())
        extents = [view.extent(self.case.scan_shape) for view in planes]
        names = [*(["scan"] if "scan" in self.case.saved else []), *self.rows, *self.overlays]
        columns = _columns(extents)
        tall = max(height for height, _ in extents)
        wide = sum(max(extents[number][1] for number in column) for column in columns)
        inch = min(  # of a mm
            (_WIDTH - _LABELS - (len(columns) - 1) * _GAP - _EDGE) / wide,
            (_TALLEST - 3 * _LINE - len(names) * _GAP) / (tall * len(names)),
        )
        width = _LABELS + inch * wide + (len(columns) - 1) * _GAP + _EDGE
        lines = wrap(self._small_print(), int((width - _LABELS) * _LETTERS_AN_INCH))
        height = _EDGE + (len(lines) + 1) * _LINE + len(names) * (inch * tall + _GAP)
        figure = Figure(figsize=(width, height), facecolor=page)
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
            _dress(panel, view, view.extent(self.case.scan_shape), inch, is_first, is_first and view is planes[0])
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
        return figure, lambda voxel: self._show(panels, voxel)

    def _show(self, panels: Sequence[tuple[str, View, Any]], voxel: Sequence[int]) -> None:
        for name, view, panel in panels:
            for drawn in (*panel.images, *panel.collections):
                drawn.remove()
            index = int(voxel[view.normal])
            down, across = view.extent(self.case.scan_shape)
            place = (0, across, down, 0)
            if name in self.rows:
                panel.imshow(self.rows[name].picture(view, index), extent=place, interpolation="bilinear")
            elif "scan" in self.case.saved:
                scan = scan_picture(self.case, view, index)
                panel.imshow(scan, extent=place, interpolation="bilinear", cmap="gray", vmin=0, vmax=1)
            if name in self.overlays:
                values = self.overlays[name]
                low, high = np.nanmin(values), np.nanmax(values)
                panel.imshow(view.picture(values, index), extent=place, interpolation="nearest", cmap="inferno",
                             vmin=low, vmax=high, alpha=_VEIL)  # fmt: skip
            if self.labels is not None:
                _outline(panel, view.picture(self.labels, index), place)

    def _small_print(self) -> str:
        painting = next(iter(self.rows.values()))
        about = painting.colours.about
        kept = f"{100 * painting.colours.variance_kept:.0f} % of the variance"
        affine = self.case.scan_affine
        voxel, unit = ((1.0, 1.0, 1.0), "voxels") if affine is None else (spacing_of(affine), "mm")
        cell = [stride * step for stride, step in zip(painting.grid.stride, voxel, strict=True)]
        size = " x ".join(f"{each:.3g}" for each in cell)
        ranges = [f" · {name} {np.nanmin(map_):.3g} to {np.nanmax(map_):.3g}" for name, map_ in self.overlays.items()]
        return (
            f"{self.case.id} · {about['meaning']['model']}, layer {about['layer']} · components 1 to 3 as red, green, "
            f"blue ({kept}), one basis for all · cells of {size} {unit} (d x h x w)" + "".join(ranges)
        )


def check_formats(formats: Sequence[str], animation: str | None = None) -> tuple[str, ...]:
    """The formats, after making sure that they can be written.

    Raises:
        OptionError: one that is not among `FORMATS` or `ANIMATIONS`.
    """
    if not formats or set(formats) - set(FORMATS):
        raise OptionError(f"--formats {','.join(formats)}: give {', '.join(FORMATS)} or several of them")
    if animation is not None and animation not in ANIMATIONS:
        raise OptionError(f"--sweep {animation}: give {' or '.join(ANIMATIONS)}")
    return tuple(formats)


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
        length = max((each for each in _SCALES if each <= across / 3), default=_SCALES[0])
        right, low = 0.94 * across, 0.94 * down
        panel.plot(
            [right - length, right], [low, low], color="white", linewidth=2, solid_capstyle="butt",
            path_effects=[withStroke(linewidth=3.2, foreground="black")],
        )  # fmt: skip
        panel.text(
            right - length / 2, low - 0.015 * down, f"{length} mm", ha="center", va="bottom", fontsize=6.5,
            **text,
        )  # fmt: skip


def _outline(panel: Any, labels: NDArray[np.int32], place: tuple[float, float, float, float]) -> None:
    """The border of every label."""
    _, across, down, _ = place
    rows, columns = labels.shape
    x = (np.arange(columns) + 0.5) * across / columns
    y = (np.arange(rows) + 0.5) * down / rows
    found = np.unique(labels[labels != 0])
    width = 0.8 if len(found) <= _MANY else 0.5
    for label in found:
        colour = _OUTLINES[(int(label) - 1) % len(_OUTLINES)]
        panel.contour(x, y, labels == label, levels=[0.5], colors=[colour], linewidths=width)


@contextmanager
def _style() -> Iterator[None]:
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


def _mode(store: Store) -> str:
    """How a store's volumes were lifted, and along how many axes if several."""
    axes = store.recipe.get("orientations") or ()
    return f"{store.recipe['mode']}, {len(axes)} axes" if axes else str(store.recipe["mode"])

"""A case in its three planes: the scan, the features of each store in the colours of one basis, maps over the scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import write_atomically
from featlift.drawing.anatomy import View
from featlift.drawing.panels import label_colour, laid_out, legend, outline, styled
from featlift.errors import OptionError
from featlift.pictures.colours import Colours
from featlift.pictures.fitting import Foreground
from featlift.pictures.instances import InstanceFiles, Segmented
from featlift.pictures.overlay import overlay_of
from featlift.pictures.painting import Painting
from featlift.store.case import Case
from featlift.store.features import labels_of
from featlift.store.reading import Store
from featlift.volumes.grid import Shape
from featlift.volumes.reading import read_mask
from featlift.volumes.source import MaskFile
from featlift.volumes.volume import spacing_of

FORMATS = ("png", "svg", "pdf")
ANIMATIONS = ("gif", "webp")

_VEIL = 0.6  # opacity of a map over the scan


@dataclass(frozen=True, eq=False)
class CaseFigure:
    """A figure of one case.

    Attributes:
        case: whose scan is shown.
        rows: the features of each store, by the name that its row gets.
        labels: of a mask on the scan's grid ``(D, H, W)``, drawn as outlines; None for none.
        dark: light on dark, for slides.
        overlays: maps on the scan's grid ``(D, H, W)``, nan where there is none, by the name that each one's row gets.
        label_names: what labels are called.
        segmented: objects, a row for each of their maps, errors outlined; None for none.
    """

    case: Case
    rows: Mapping[str, Painting]
    labels: NDArray[np.int32] | None = None
    dark: bool = False
    overlays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)
    segmented: Segmented | None = None

    @classmethod
    def of(
        cls,
        stores: Sequence[Store],
        case_id: str,
        colours: Colours,
        layer: int | None = None,
        mask: MaskFile | None = None,
        foreground: Foreground = "auto",
        dark: bool = False,
        overlays: Mapping[str, Path] | None = None,
        label_names: Mapping[int, str] | None = None,
        instances: InstanceFiles | None = None,
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
            label_names: what labels of the mask are called; the first picture says so.
            instances: masks of objects, see `Segmented`.

        Raises:
            OptionError: no such case or layer.
            StoreError: its features are damaged.
            InputError: there is no such map or mask of objects.
            VolumeError: a mask or a map is damaged, empty, or of another place.
        """
        modes = [_mode(store) for store in stores]
        names = modes if len(set(modes)) == len(modes) else [store.name.removesuffix(".zarr") for store in stores]
        for store in stores:
            store.require_cases([case_id])
        case = stores[0][case_id]
        labels = None if mask is None else labels_of(case, read_mask(mask))
        inside = labels != 0 if labels is not None and foreground == "mask" else None
        rows = {
            name: Painting.of(store[case_id], colours, layer, inside) for name, store in zip(names, stores, strict=True)
        }
        maps = {name: overlay_of(case, path) for name, path in (overlays or {}).items()}
        segmented = None if instances is None else Segmented.of(case, instances)
        return cls(case, rows, labels, dark, maps, label_names or {}, segmented)

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
        with styled():
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

        with styled():
            figure, show = self._laid_out()
            writer = PillowWriter(fps=fps)

            def animate(draft: Path) -> None:
                with writer.saving(figure, str(draft), dpi=110):
                    for share in np.linspace(0.04, 0.96, frames):
                        show([int(share * size) for size in self.case.scan_shape])
                        writer.grab_frame(facecolor=figure.get_facecolor())

            write_atomically(Path(path), animate)

    def _laid_out(self) -> tuple[Any, Callable[[Sequence[int]], None]]:
        """The figure, and a function that shows the planes through a voxel."""
        scan = ["scan"] if "scan" in self.case.saved else []
        objects = [] if self.segmented is None else list(self.segmented.maps)
        names = [*scan, *self.rows, *self.overlays, *objects]
        figure, panels = laid_out(names, self.case.scan_shape, self.case.scan_affine, self._small_print(), self.dark)
        if self.labels is not None:
            held = np.unique(self.labels)
            named = [
                (name, label_colour(label))
                for label, name in sorted(self.label_names.items())
                if label in held[held != 0]
            ]
            legend(panels[0][2], named)
        if self.segmented is not None:
            first = next(panel for name, _, panel in panels if name == objects[0])
            legend(first, [(marked.kind, marked.colour) for marked in self.segmented.marked])
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
                scan = self.case.look.scan_picture(view, index)
                panel.imshow(scan, extent=place, interpolation="bilinear", cmap="gray", vmin=0, vmax=1)
            if name in self.overlays:
                values = self.overlays[name]
                low, high = np.nanmin(values), np.nanmax(values)
                panel.imshow(view.picture(values, index), extent=place, interpolation="nearest", cmap="inferno",
                             vmin=low, vmax=high, alpha=_VEIL)  # fmt: skip
            if self.segmented is not None and name in self.segmented.maps:
                objects = self.segmented.maps[name]
                colours = objects.colours[view.picture(objects.numbers, index)]
                panel.imshow(colours, extent=place, interpolation="nearest", alpha=_VEIL * (colours[..., 3] > 0))
                for marked in self.segmented.marked:
                    outline(
                        panel,
                        marked.within(view.picture(marked.map.numbers, index)),
                        place,
                        marked.colour,
                        marked.width,
                    )
            if self.labels is not None:
                outline(panel, view.picture(self.labels, index), place)

    def _small_print(self) -> str:
        painting = next(iter(self.rows.values()))
        about = painting.colours.about
        kept = f"{100 * painting.colours.variance_kept:.0f} % of the variance"
        affine = self.case.scan_affine
        voxel, unit = ((1.0, 1.0, 1.0), "voxels") if affine is None else (spacing_of(affine), "mm")
        cell = [stride * step for stride, step in zip(painting.grid.stride, voxel, strict=True)]
        size = " x ".join(f"{each:.3g}" for each in cell)
        ranges = [f" · {name} {np.nanmin(map_):.3g} to {np.nanmax(map_):.3g}" for name, map_ in self.overlays.items()]
        counts = [] if self.segmented is None else [f" · {self.segmented}"]
        return (
            f"{self.case.id} · {about['meaning']['model']}, layer {about['layer']} · components 1 to 3 as red, green, "
            f"blue ({kept}), one basis for all · cells of {size} {unit} (d x h x w)" + "".join(ranges + counts)
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


def _mode(store: Store) -> str:
    """How a store's volumes were lifted, and along how many axes if several."""
    axes = store.recipe.get("orientations") or ()
    return f"{store.recipe['mode']}, {len(axes)} axes" if axes else str(store.recipe["mode"])

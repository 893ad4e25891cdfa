"""What a case looks like: a figure of its planes, and its card in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.cards import card, component_colours, thumbnail, times
from featlift.drawing.anatomy import View, views
from featlift.drawing.panels import laid_out, styled
from featlift.errors import OptionError
from featlift.store.case_layer import CaseLayer
from featlift.store.cells import CellGrid
from featlift.store.metadata import RecordedVolume
from featlift.store.recorded import StoredArray
from featlift.volumes.volume import spacing_of


@dataclass(frozen=True, eq=False)
class Look:
    """What a case looks like.

    Attributes:
        volume: what is recorded of it.
        layer: its deepest one.
        scan: what the backbone saw; None where it is not kept.
    """

    volume: RecordedVolume
    layer: CaseLayer
    scan: StoredArray | None

    def figure(self, voxel: Sequence[int] | None, dark: bool) -> Any:
        """See `Case.show`."""
        shape, affine = self.volume.shape, self.volume.affine
        at = [size // 2 for size in shape] if voxel is None else list(voxel)
        if len(at) != 3 or any(not 0 <= index < size for index, size in zip(at, shape, strict=True)):
            raise OptionError(f"{self.volume.id}: no voxel {tuple(at)}; its scan has {shape}")
        has_dense = "dense" in self.volume.saved
        names = ["scan"] * (self.scan is not None) + ["features"] * has_dense
        if not names:
            raise OptionError(f"{self.volume.id}: its store keeps neither scan nor dense, so there is nothing to show")
        colours = component_colours(self.layer.cells()) if has_dense else ()
        grid = CellGrid(self.layer.valid_cells, shape, self.layer.stride, self.layer.offset)
        small_print = f"{self.volume.id} · voxel {', '.join(map(str, at))} of {times(shape)}"
        if has_dense:
            small_print += " · components 1 to 3 of its features as red, green, blue"
        with styled():
            figure, panels = laid_out(names, shape, affine, small_print, dark)
            for name, view, panel in panels:
                if name == "scan":
                    picture = self.scan_picture(view, at[view.normal])
                else:
                    planes = [grid.upsample(each, view.normal, at[view.normal]) for each in colours]
                    picture = view.picture(np.stack(planes, axis=-1), 0)
                down, across = view.extent(shape)
                panel.imshow(
                    picture, extent=(0, across, down, 0), interpolation="bilinear", cmap="gray", vmin=0, vmax=1
                )  # fmt: skip
        return figure

    def scan_picture(self, view: View, voxel: int) -> NDArray[np.float32]:
        """One picture of the stored scan, ``(rows, columns)`` in [0, 1]; of three windows their mean."""
        assert self.scan is not None
        place: list[slice | int] = [slice(None)] * 3
        place[view.normal] = slice(voxel, voxel + 1)
        plane = np.asarray(self.scan[(..., *place)]).astype(np.float32)
        picture: NDArray[np.float32] = view.picture(plane.mean(axis=0) if plane.ndim > 3 else plane, 0)
        return picture

    def card(self) -> str:
        """The card of the case: thumbnails of its middle, what is kept, where it lies."""
        volume, layer = self.volume, self.layer
        spacing = "unknown" if volume.affine is None else f"{_rounded(spacing_of(volume.affine))} mm"
        facts: dict[str, object] = {
            "source": volume.attributes.get("source", {}).get("name", "unknown"),
            "modality": volume.attributes.get("modality") or "unknown",
            "scan (d x h x w)": f"{times(volume.shape)}, spacing {spacing}",
        }
        pictures = [self.scan_thumbnail()] if self.scan is not None else []
        if "dense" in volume.saved:
            cells = f"{layer.dense.shape[0]} channels of {times(layer.valid_cells)} cells"
            facts["dense"] = f"{cells}, layer {layer.grid['layer']}, a cell every {times(layer.stride)} voxels"
            view, extent = self._middle()
            depth = layer.valid_cells[0] // 2
            _, h, w = layer.valid_cells
            rgb = component_colours(np.asarray(layer.dense[:, depth : depth + 1, :h, :w]))
            pictures.append(thumbnail(view.picture(np.moveaxis(rgb, 0, -1), 0), extent, "features"))
        return card(f"case {volume.id}", {**facts, "kept": ", ".join(volume.saved)}, pictures)

    def scan_thumbnail(self) -> str:
        """The middle slice of the scan."""
        view, extent = self._middle()
        return thumbnail(self.scan_picture(view, self.volume.shape[0] // 2), extent, self.volume.id)

    def _middle(self) -> tuple[View, tuple[float, float]]:
        view = views(self.volume.affine)["HW"]
        return view, view.extent(self.volume.shape)


def recipe_card(title: str, recipe: dict[str, Any], cases: int, pictures: Sequence[str]) -> str:
    """The card of a store: how many cases it has, some of them, and the fields of its recipe that are set."""
    said = {name: value for name, value in recipe.items() if value not in (None, [], {}, "")}
    return card(title, {"volumes": cases} | {name.replace("_", " "): value for name, value in said.items()}, pictures)


def _rounded(sizes: Sequence[float]) -> str:
    return times(f"{size:.3g}" for size in sizes)

"""One case as it is painted: its scan, and the components of its features, plane by plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.drawing.anatomy import View
from featlift.pictures.colours import Colours
from featlift.store.case import Case
from featlift.store.cells import CellGrid
from featlift.store.features import grid_of, layer_of, slabs_of
from featlift.volumes.grid import Shape
from featlift.volumes.volume import spacing_of

_CRUMB = 0.02  # of the largest piece of foreground


@dataclass(frozen=True, eq=False)
class Painting:
    """The features of one case in colours.

    Attributes:
        colours: of the basis.
        grid: where the cells lie among the voxels of the scan.
        components: ``(K, d, h, w)``.
        foreground: ``(d, h, w)``, above 0 for foreground.
        inside: ``(D, H, W)`` of the scan, what alone is to be foreground; None leaves it to the cells.
    """

    colours: Colours
    grid: CellGrid
    components: NDArray[np.float32]
    foreground: NDArray[np.float32]
    inside: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, case: Case, colours: Colours, layer: int | None = None, inside: NDArray[np.bool_] | None = None
    ) -> Painting:
        """Read the features of a case, a few slices in memory at a time.

        Raises:
            OptionError: no such layer.
            StoreError: the features are damaged.
        """
        chosen = layer_of(case, layer)
        grid = grid_of(case, chosen)
        slabs = [(colours.project(slab), colours.foreground_of(slab)) for slab in slabs_of(chosen)]
        components, foreground = (np.concatenate(parts, axis=-3) for parts in zip(*slabs, strict=True))
        cell = grid.stride if chosen.affine is None else spacing_of(chosen.affine)
        return cls(colours, grid, components, _cleaned(foreground, cell), inside)

    def picture(self, view: View, voxel: int) -> NDArray[np.uint8]:
        """One picture, ``(rows, columns, 4)`` on the voxels of the scan; the background is transparent.

        Cells are interpolated linearly before they are coloured.

        Args:
            view: which plane.
            voxel: of the scan, along the plane's normal.
        """
        components = np.stack([self.grid.upsample(each, view.normal, voxel) for each in self.components[:3]])
        rgb = view.picture(self.colours.rgb(components), 0)
        if self.inside is None:
            shown = view.picture(_upsampled(self.foreground, self.grid, view.normal, voxel) > 0, 0)
        else:
            shown = view.picture(self.inside, voxel)
        return np.dstack([rgb, np.where(shown, 255, 0).astype(np.uint8)])

    @property
    def middle(self) -> Shape:
        """(d, h, w) of the voxel in the middle of the foreground."""
        if self.inside is None:
            voxels = np.argwhere(self.foreground > 0) * self.grid.stride + self.grid.offset
        else:
            voxels = np.argwhere(self.inside).astype(np.float64)
        centre = voxels.mean(axis=0) if len(voxels) else np.array(self.grid.voxels) / 2
        d, h, w = np.clip(np.round(centre), 0, np.array(self.grid.voxels) - 1).astype(int).tolist()
        return d, h, w


def _upsampled(values: NDArray[np.float32], grid: CellGrid, axis: int, voxel: int) -> NDArray[np.float32]:
    """As `CellGrid.upsample`, but on beyond the outermost cells, whose last half would else stand out as a bar."""
    wider = np.pad(values, 1, mode="reflect", reflect_type="odd")
    d, h, w = (first - step for first, step in zip(grid.offset, grid.stride, strict=True))
    return CellGrid(wider.shape, grid.voxels, grid.stride, (d, h, w)).upsample(wider, axis, voxel)


def _cleaned(foreground: NDArray[np.float32], cell: Sequence[float]) -> NDArray[np.float32]:
    """Smooth along axes of small cells, whose slices disagree; holes filled, since a ventricle is no air; no crumbs."""
    from scipy.ndimage import binary_fill_holes, median_filter
    from skimage.morphology import label

    foreground = median_filter(foreground, [2 * int(max(cell) / step / 2) + 1 for step in cell], mode="nearest")
    inside = binary_fill_holes(foreground > 0)
    pieces = label(inside, connectivity=1)
    sizes = np.bincount(pieces.ravel())[1:]
    whole = inside & np.isin(pieces, 1 + np.flatnonzero(sizes >= _CRUMB * sizes.max(initial=0)))
    least = np.abs(foreground[foreground != 0]).min(initial=1)
    cleaned: NDArray[np.float32] = np.where(whole, np.maximum(foreground, least), np.minimum(foreground, -least))
    return cleaned.astype(np.float32)

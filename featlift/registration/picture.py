"""A registered pair to look at: the fixed scan, the moving one before and after, and the grid that the field bends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import write_atomically
from featlift.drawing.anatomy import View
from featlift.drawing.panels import laid_out, styled
from featlift.registration.field import DisplacementField
from featlift.volumes.grid import Shape, on_grid
from featlift.volumes.volume import Affine, Volume, scaled

_ROWS = ("fixed", "moving", "warped", "grid")
_LINES = 16  # of the grid, along the longest side of a plane
_YELLOW, _BLUE = "#ffd60a", "#00d5ff"
_DARKEST, _BRIGHTEST = 0.5, 99.5  # percentiles of a scan's voxels


def write_picture(
    path: Path, fixed: Volume, moving: Volume, warped: NDArray[np.float32], field: DisplacementField, title: str
) -> None:
    """Write a picture of the planes through the middle of the fixed scan, a row for each scan and one for the grid.

    The outline is of the fixed scan in all rows. Lines of the grid join places that come from the same place along an
    axis of the plane, drawn over the warped scan; displacements across the plane do not show.

    Args:
        path: ends in .png, .svg or .pdf.
        fixed: the scan that stayed, with an affine.
        moving: the other one.
        warped: the moving scan on the voxels of the fixed one ``(D, H, W)``.
        field: between them, on the same voxels.
        title: small print.

    Raises:
        OptionError: matplotlib is not installed.
        OutputError: the picture cannot be written.
    """
    depth, height, width = fixed.array.shape
    middle = depth // 2, height // 2, width // 2
    ranges = {"fixed": _range(fixed.array), "moving": _range(moving.array)}
    edge = _edge(fixed.array)
    with styled():
        figure, panels = laid_out(_ROWS, (depth, height, width), fixed.affine, title)
        for name, view, panel in panels:
            index = middle[view.normal]
            down, across = view.extent((depth, height, width))
            place = (0.0, across, down, 0.0)
            if name == "fixed":
                shown = view.picture(fixed.array, index)
            elif name == "moving":
                shown = _as_it_lies(moving, fixed, view, index)
            else:
                shown = view.picture(warped, index)
            low, high = ranges["fixed" if name == "fixed" else "moving"]
            panel.imshow(shown, extent=place, interpolation="bilinear", cmap="gray", vmin=low, vmax=high)
            if name == "grid":
                _draw_grid(panel, field, view, index, place)
            else:
                _draw_lines(panel, view.picture(fixed.array, index), [edge], place, _YELLOW)
        write_atomically(path, lambda draft: figure.savefig(draft, dpi=150))


def _range(values: NDArray[Any]) -> tuple[float, float]:
    """What is black and what is white."""
    low, high = np.percentile(_some(values), (_DARKEST, _BRIGHTEST))
    return float(low), float(max(high, low + 1e-6))


def _edge(values: NDArray[Any]) -> float:
    """Between what is dark and what is bright in a scan (Otsu 1979)."""
    from skimage.filters import threshold_otsu

    some = _some(values)
    return float(threshold_otsu(some)) if some.min() < some.max() else float(some.min())


def _some(values: NDArray[Any]) -> NDArray[Any]:
    """Every third row and column: a large scan is not copied whole."""
    return values[:, ::3, ::3]


def _as_it_lies(moving: Volume, fixed: Volume, view: View, index: int) -> NDArray[Any]:
    """The moving scan on one plane of the fixed one, before anything is displaced."""
    assert fixed.affine is not None
    assert moving.affine is not None
    shape, onto = _plane(fixed, fixed.affine, view.normal, index)
    values = on_grid(moving.array, moving.affine, shape, onto, order=1, fill_value=float(moving.array.min()))
    return view.picture(values, 0)


def _plane(volume: Volume, affine: Affine, normal: int, index: int) -> tuple[Shape, Affine]:
    """Shape and affine of one plane of a volume."""
    d, h, w = (1 if axis == normal else size for axis, size in enumerate(volume.array.shape))
    first = [index if axis == normal else 0 for axis in range(3)]
    return (d, h, w), scaled(affine, (1, 1, 1), (first[0], first[1], first[2]))


def _draw_grid(
    panel: Any, field: DisplacementField, view: View, index: int, place: tuple[float, float, float, float]
) -> None:
    """Lines of equal origin along both axes of a plane, in voxels of the fixed grid."""
    vectors = np.take(field.vectors, index, axis=1 + view.normal)
    in_voxels = np.tensordot(np.linalg.inv(field.affine[:3, :3]), vectors, axes=1)
    steps = np.expand_dims(in_voxels, 1 + view.normal)
    _, across, down, _ = place
    apart = max(across, down) / _LINES
    for axis, spacing in ((view.down, view.spacing[0]), (view.right, view.spacing[1])):
        sizes = [1 if each == view.normal else size for each, size in enumerate(field.shape)]
        origin = np.broadcast_to(
            np.arange(field.shape[axis]).reshape([-1 if each == axis else 1 for each in range(3)]), sizes
        )
        values = (origin + steps[axis]) * spacing
        # an affine stage may lead far away: lines are counted from there
        levels = np.arange(np.floor(values.min() / apart) * apart + apart / 2, values.max(), apart)
        _draw_lines(panel, view.picture(values, 0), list(levels), place, _BLUE)


def _draw_lines(
    panel: Any, values: NDArray[Any], levels: list[float], place: tuple[float, float, float, float], colour: str
) -> None:
    """Lines along which a plane has these values."""
    inside = [level for level in levels if values.min() < level < values.max()]
    if not inside or min(values.shape) < 2:
        return
    _, across, down, _ = place
    rows, columns = values.shape
    x = (np.arange(columns) + 0.5) * across / columns
    y = (np.arange(rows) + 0.5) * down / rows
    panel.contour(x, y, values, levels=inside, colors=[colour], linewidths=0.6, linestyles="solid")

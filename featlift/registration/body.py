"""Where the body is in a scan: what lies around it does not count."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.registration.features import Bodies
from featlift.volumes.grid import Shape, on_grid
from featlift.volumes.masks import labels_on
from featlift.volumes.volume import Affine, Volume

#: What counts. ``none``: everything; ``otsu``: what `body_of` finds; ``masks``: what two masks mark.
Body = Literal["none", "otsu", "masks"]

_COARSE = 128  # voxels a side on which the body is looked for


def parse_body(text: str) -> tuple[Body, tuple[str, str] | None]:
    """What ``--body`` says: a word, or the paths of two masks.

    Raises:
        OptionError: something else.
    """
    paths = text.split(",")
    if text == "none":
        return "none", None
    if text == "otsu":
        return "otsu", None
    if len(paths) != 2 or not all(paths):
        raise OptionError(f"body {text!r}: give none, otsu, or two masks: FIXED_MASK,MOVING_MASK")
    return "masks", (paths[0], paths[1])


def body_of(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The largest piece brighter than Otsu's threshold, its holes filled slice by slice along every axis.

    For whole scans with air around them; of a crop it is what happens to be bright. Looked for in every n-th voxel,
    128 along an axis.

    Args:
        image: ``(D, H, W)``.

    Returns:
        ``(D, H, W)``; all of it where every voxel is the same.
    """
    from scipy.ndimage import binary_fill_holes, label
    from skimage.filters import threshold_otsu

    steps = [max(1, -(-size // _COARSE)) for size in image.shape]
    coarse = image[tuple(slice(step // 2, None, step) for step in steps)]
    low, high = np.percentile(coarse, (0.5, 99.5))  # metal and padding would draw the threshold
    if low == high:
        return np.ones(image.shape, np.bool_)
    pieces, _ = label(coarse > threshold_otsu(coarse.clip(low, high)))
    body: NDArray[np.bool_] = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    for axis in range(3):  # lungs are open to the outside in three dimensions, not in a slice
        for slice_ in np.moveaxis(body, axis, 0):
            slice_[:] = binary_fill_holes(slice_)
    for axis, (step, size) in enumerate(zip(steps, image.shape, strict=True)):
        nearest = np.minimum(np.arange(size) // step, body.shape[axis] - 1)
        body = body.take(nearest, axis=axis)
    return body


def masks_on(
    masks: tuple[Volume, Volume], affines: tuple[Affine | None, Affine | None], grid: Shape, onto: Affine
) -> Bodies:
    """Where two masks are not 0, on the common grid.

    Args:
        masks: of the fixed and of the moving scan.
        affines: of both, as they lie after the affine stage.
        grid: (D, H, W) of the common grid.
        onto: its affine.

    Raises:
        VolumeError: one is no mask, or does not overlap the grid.
    """
    one, other = (
        labels_on(Volume(mask.array, affine), grid, onto) != 0 for mask, affine in zip(masks, affines, strict=True)
    )
    return one, other


def of_cells(body: NDArray[np.bool_], onto: Affine, cells: Shape, affine: Affine) -> NDArray[np.bool_]:
    """Which feature cells are centred in a body.

    Args:
        body: ``(D, H, W)`` on the common grid.
        onto: affine of that grid.
        cells: (d, h, w) of the features.
        affine: of the features.
    """
    found: NDArray[np.bool_] = on_grid(body.astype(np.uint8), onto, cells, affine, order=0) > 0
    return found

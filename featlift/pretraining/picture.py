"""What a network gives back, to look at: the scan, what is seen of it, and what is made of that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from featlift.atomic_io import write_atomically
from featlift.drawing.panels import laid_out, styled
from featlift.pretraining.crops import Crop
from featlift.pretraining.network import Masked

_ROWS = ("scan", "seen", "restored")
_DARKEST, _BRIGHTEST = 0.5, 99.5  # percentiles of the scan's voxels


def draw_reconstruction(path: Path, crop: Crop, batch: Masked, output: Tensor, title: str) -> bool:
    """Draw the planes through the middle of a cube; False where matplotlib is not installed.

    Args:
        path: ends in .png, .svg or .pdf.
        crop: the cube.
        batch: the cube alone, with its mask.
        output: what the network made of it ``(1, 1, N, N, N)``.
        title: small print.

    Raises:
        OutputError: the picture cannot be written.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    side = len(crop.voxels)
    shown = dict(zip(_ROWS, (crop.voxels, batch.seen[0, 0].cpu().numpy(), output[0, 0].cpu().numpy()), strict=True))
    low, high = (float(value) for value in np.percentile(crop.voxels, (_DARKEST, _BRIGHTEST)))
    with styled():
        figure, panels = laid_out(_ROWS, (side, side, side), crop.affine, title)
        for name, view, panel in panels:
            down, across = view.extent((side, side, side))
            panel.imshow(
                view.picture(shown[name], side // 2),
                extent=(0.0, across, down, 0.0),
                interpolation="nearest",
                cmap="gray",
                vmin=low,
                vmax=max(high, low + 1e-6),
            )
        write_atomically(path, lambda draft: figure.savefig(draft, dpi=150))
    return True

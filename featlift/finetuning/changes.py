"""How training volumes are changed, so that none is seen twice."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError

_PIXELS = 4  # of padding: places that a crop of the old size can have


def shifted_and_turned(volume: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The released code's changes for classification: pad by 4 pixels and crop, flip rows and columns, turn by 90°.

    All slices of a volume alike. Planes that are not square are turned by 0 or 180°.

    Args:
        volume: ``(C, D, H, W)``.
        rng: what is drawn.
    """
    height, width = volume.shape[2:]
    mode = "reflect" if min(height, width) > _PIXELS else "edge"
    padded = np.pad(volume, ((0, 0), (0, 0), (_PIXELS, _PIXELS), (_PIXELS, _PIXELS)), mode=mode)  # type: ignore[call-overload]
    row, column = rng.integers(2 * _PIXELS + 1, size=2)
    found = padded[:, :, row : row + height, column : column + width]
    for axis in (2, 3):
        if rng.random() < 0.5:
            found = np.flip(found, axis)
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    return np.ascontiguousarray(np.rot90(found, turns, axes=(2, 3)))


def need_monai() -> None:
    """Make sure that MONAI is installed.

    Raises:
        OptionError: it is not.
    """
    if find_spec("monai") is None:
        raise OptionError(
            "segmentation changes training scans, and takes windows of them, by MONAI, which is not installed: "
            "pip install 'featlift[finetune]', or --no-augment without --window"
        )


def changes_of_space_and_intensity() -> Any:
    """MONAI's changes for segmentation, of ``image`` (C, D, H, W) and ``labels`` (1, D, H, W) together.

    Flips, small affine changes, contrast and noise, within the ranges of the released code for whole hearts.

    Raises:
        OptionError: MONAI is not installed.
    """
    need_monai()
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.dictionary import RandAdjustContrastd, RandGaussianNoised
    from monai.transforms.spatial.dictionary import RandAffined, RandFlipd

    both = ("image", "labels")
    turn = np.deg2rad(10)
    return Compose(
        [
            *(RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
            RandAffined(
                both,
                prob=0.5,
                rotate_range=(turn, turn, turn),
                scale_range=(0.1, 0.1, 0.1),
                translate_range=(5, 5, 5),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.4)),
            RandGaussianNoised("image", prob=0.5, std=0.01),
        ]
    )

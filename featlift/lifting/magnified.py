"""Magnified planes: a volume is enlarged in plane before it is lifted, so that a patch covers fewer voxels.

Stride 16 at magnification 4 is stride 4, for sixteen times the tokens: too many for one sequence of attention, hence
tiles. The authors of DINOv3 get their fine features by larger images too (facebookresearch/dinov3#21).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from featlift.backbones.sampling import FeatureLayer, Triple
from featlift.errors import LiftingError, OptionError
from featlift.lifting.around import AroundLifted
from featlift.lifting.features import Features
from featlift.lifting.lifted import LiftedBackbone
from featlift.lifting.tiles import in_tiles

#: Magnified pixels of a tile, rounded up to whole cells: twice the side of DINOv3's pretraining.
DEFAULT_PIXELS = 512
#: Share of a tile that its neighbour has too. A half, as of native networks, would cost more than twice as much.
OVERLAP = 1 / 4
_FEWEST_CELLS = 4  # of the deepest layer that make a tile: so many have one to overlap by


class MagnifiedBackbone(AroundLifted):
    """A lifted backbone that sees the planes of a volume in tiles, each enlarged.

    ``MagnifiedBackbone(featlift.lift(backbone), 4)`` is a `VolumeEncoder`.

    Tiles have the whole depth. Each is enlarged in plane by bilinear interpolation (pixel centres aligned:
    ``align_corners=False``), never along the depth, and lifted as a volume of its own.

    Attributes:
        lifted: lifts each tile.
        magnification: pixels that the network sees for each voxel, along rows and columns.
        tile: voxels (H, W) of a tile; planes that are no larger are seen whole.
    """

    def __init__(self, lifted: LiftedBackbone, magnification: int = 1, tile: int | Sequence[int] | None = None) -> None:
        """Enlarge planes `magnification` times, in tiles of (H, W) voxels; None takes 512 pixels.

        Raises:
            OptionError: a magnification that does not divide the strides, or a tile that is no whole number of cells.
        """
        for layer in lifted.feature_layers:
            stride = layer.stride[-1]
            if magnification < 1 or stride % magnification:
                fitting = ", ".join(str(times) for times in range(1, stride + 1) if stride % times == 0)
                raise OptionError(
                    f"--magnify {magnification}: cells have to begin at voxels, and layer {layer.index} of "
                    f"{lifted.name} has stride {stride}: give one of {fitting}, or another layer with --layers"
                )
        self.lifted = lifted
        self.magnification = magnification
        self.tile = self._tile(tile)

    def _tile(self, given: int | Sequence[int] | None) -> tuple[int, int]:
        multiple = self.size_multiple[-1]
        if given is None:
            side = -(-DEFAULT_PIXELS // self.lifted.stride) * multiple
            return side, side
        sizes = (given,) if isinstance(given, int) else tuple(given)
        if len(sizes) not in (1, 2) or any(size % multiple or size < _FEWEST_CELLS * multiple for size in sizes):
            raise OptionError(
                f"--tile {','.join(map(str, sizes))}: give voxels in plane, a side or H,W, in multiples of {multiple} "
                f"from {_FEWEST_CELLS * multiple} on (stride {self.lifted.stride} of {self.name} at magnification "
                f"{self.magnification})"
            )
        return sizes[0], sizes[-1]

    @property
    def feature_layers(self) -> tuple[FeatureLayer, ...]:
        """See `VolumeEncoder`. Pixel y is seen at voxel ``(y + 1/2) / magnification - 1/2``."""
        times, layers = self.magnification, []
        for layer in self.lifted.feature_layers:
            (depth, *strides), (first, *offsets) = layer.stride, layer.offset
            h, w = (stride // times for stride in strides)
            top, left = ((offset + 0.5) / times - 0.5 for offset in offsets)
            layers.append(replace(layer, stride=(depth, h, w), offset=(first, top, left)))
        return tuple(layers)

    @property
    def token_names(self) -> tuple[str, ...]:
        """See `VolumeEncoder`. Global tokens are the mean over the tiles, each by its share of the cells."""
        return self.lifted.token_names

    @property
    def tokens_per_slice(self) -> bool:
        """See `VolumeEncoder`."""
        return self.lifted.tokens_per_slice

    @property
    def size_multiple(self) -> Triple:
        """See `VolumeEncoder`."""
        multiple = self.lifted.stride // self.magnification
        return 1, multiple, multiple

    def recipe(self) -> dict[str, Any]:
        """See `VolumeEncoder`."""
        magnified = {"magnify": self.magnification} if self.magnification > 1 else {}
        return {**self.lifted.recipe(), **magnified, "tile": list(self.tile)}

    def __call__(self, volume: Tensor) -> Features:
        """Lift volumes tile by tile.

        Args:
            volume: ``(B, 1 or 3, D, H, W)``, intensities in [0, 1]; H and W are multiples of `size_multiple`.

        Raises:
            LiftingError: another shape.
            LiftingMemoryError: a single plane of a tile does not fit in memory.
        """
        multiple = self.size_multiple[-1]
        if volume.ndim != 5 or 0 in volume.shape or volume.shape[3] % multiple or volume.shape[4] % multiple:
            raise LiftingError(
                f"volume of shape {tuple(volume.shape)}: give (B, 1 or 3, D, H, W), H and W multiples of {multiple}; "
                "pad it first, as featlift.volumes.grid.pad does"
            )
        home = torch.device("cpu") if self.lifted.offload else self.device
        tile = (volume.shape[2], *self.tile)
        return in_tiles(self._lift, volume, tile, self.size_multiple, self.feature_layers, home, OVERLAP)

    def _lift(self, tile: Tensor) -> Features:
        features: Features = self.lifted(self.magnified(tile))
        return features

    def magnified(self, volume: Tensor) -> Tensor:
        """Planes of volumes ``(B, C, D, H, W)`` as the network sees them."""
        planes = volume.flatten(1, 2)
        enlarged = F.interpolate(planes, scale_factor=self.magnification, mode="bilinear", align_corners=False)
        return enlarged.view(*volume.shape[:3], *enlarged.shape[2:])

"""A plain 3D U-Net, to which DINO-3DRA adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featlift.segmentation.networks.blocks import convolutions


class UNet(nn.Module):
    """Encoder and decoder of three scales with a skip at each, and a bottleneck below them.

    Args:
        channels: of the scan.
        classes: K.
        skips: channels of the skips, the finest first.
        bottleneck: channels below.
    """

    def __init__(self, channels: int, classes: int, skips: Sequence[int], bottleneck: int) -> None:
        super().__init__()
        given = [channels, *skips[:-1]]
        self.down = nn.ModuleList(convolutions(wide, width) for wide, width in zip(given, skips, strict=True))
        self.bottom = convolutions(skips[-1], bottleneck)
        below = [*skips[1:], bottleneck]
        self.up = nn.ModuleList(convolutions(deep + width, width) for deep, width in zip(below, skips, strict=True))
        self.classifier = nn.Conv3d(skips[0], classes, 1)

    def forward(self, scan: Tensor, fused: Callable[[int, Tensor], Tensor] = lambda scale, skip: skip) -> Tensor:
        """Logits of a scan ``(B, C, D, H, W)`` of any size.

        Args:
            scan: intensities.
            fused: what becomes of the skip of each scale, 0 being the finest.
        """
        skips, x = [], scan
        for block in self.down:
            skips.append(block(x))
            x = halved(skips[-1])
        x = self.bottom(x)
        for scale in reversed(range(len(skips))):
            skip = fused(scale, skips[scale])
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            d, h, w = skip.shape[2:]
            x = self.up[scale](torch.cat([x[:, :, :d, :h, :w], skip], dim=1))
        logits: Tensor = self.classifier(x)
        return logits


def halved(x: Tensor) -> Tensor:
    """Means of 2x2x2 voxels; what an odd size has too few is repeated."""
    d, h, w = (size % 2 for size in x.shape[2:])
    return F.avg_pool3d(F.pad(x, (0, w, 0, h, 0, d), mode="replicate"), 2)

"""`dino3dra`: a 3D U-Net on the scan whose skips hear of frozen slice features (DINO-3DRA, MICCAI 2026)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from featlift.errors import OptionError
from featlift.segmentation.networks.blocks import DepthTable, groups_of
from featlift.segmentation.networks.head import Batch, Head, Size
from featlift.segmentation.networks.unet import UNet

SKIPS = (24, 48, 96)
PLACES = (64, 32, 16)  # of a volume at each scale, as the paper has them
_BOTTLENECK = 320  # the paper does not say; with it, the total is within 2 % of its 5.72 million
ABLATIONS = ("room-lite", "calibration")


class RoomLite(nn.Module):
    """Y = X + GELU(GN(Conv1x1x1(Conv3x3x3 depthwise(X + B(z))))): slices made coherent along depth.

    Args:
        channels: of X.
        places: of the depth bias B.
    """

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        self.bias = DepthTable(channels, places)
        self.mix = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv3d(channels, channels, 1),
            nn.GroupNorm(groups_of(channels), channels),
            nn.GELU(),
        )

    def forward(self, x: Tensor, depth: Tensor) -> Tensor:
        """X ``(B, C, D, H, W)`` whose slices lie at depth ``(B, D)``."""
        y: Tensor = x + self.mix(x + rearrange(self.bias(depth), "b c d -> b c d 1 1"))
        return y


class Fusion(nn.Module):
    """F = F_U + GELU(GN(W[F_U; GN(F_D)])): calibrated and residual; without calibration, F = F_U + F_D."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(channels), channels)
        self.weigh = nn.Sequential(
            nn.Conv3d(2 * channels, channels, 1), nn.GroupNorm(groups_of(channels), channels), nn.GELU()
        )

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Both ``(B, C, D, H, W)``: of the U-Net, and of the slices."""
        fused: Tensor = ours + self.weigh(torch.cat([ours, self.norm(theirs)], dim=1))
        return fused


class Injection(nn.Module):
    """What one skip is told: slice features, projected, spread over their slices, mixed and fused."""

    def __init__(self, channels: int, width: int, places: int, without: tuple[str, ...]) -> None:
        super().__init__()
        self.project = nn.Conv1d(channels, width, 1)
        self.room_lite = None if "room-lite" in without else RoomLite(width, places)
        self.fusion = None if "calibration" in without else Fusion(width)

    def forward(self, skip: Tensor, slices: Tensor, depth: Tensor) -> Tensor:
        """A skip ``(B, width, D, H, W)`` told of slices ``(B, C, D')`` that lie at depth ``(B, D')``."""
        size = skip.shape[2]
        told = F.interpolate(self.project(slices), size, mode="linear", align_corners=False)
        x = rearrange(told, "b c d -> b c d 1 1").expand_as(skip)
        if self.room_lite is not None:
            at = F.interpolate(depth[:, None], size, mode="linear", align_corners=False)[:, 0]
            x = self.room_lite(x, at)
        return skip + x if self.fusion is None else self.fusion(skip, x)


class Dino3dra(Head):
    """A trainable U-Net; each slice's mean patch token is injected into its three skips.

    Args:
        size: of the head; without channels it is the U-Net alone.
        without: of `ABLATIONS`, what to leave out.
    """

    needs = ("slice_mean", "scan")
    rate = 1e-3
    options: ClassVar[dict[str, Any]] = {"without": ()}

    def __init__(self, size: Size, without: tuple[str, ...] = ()) -> None:
        super().__init__(size)
        if unknown := [part for part in without if part not in ABLATIONS]:
            raise OptionError(f"--without {unknown[0]}: choose {', '.join(ABLATIONS)}")
        self.unet = UNet(size.scan_channels, size.classes, SKIPS, _BOTTLENECK)
        scales = zip(SKIPS, PLACES, strict=True) if size.channels else ()
        self.injections = nn.ModuleList(Injection(size.channels, width, places, without) for width, places in scales)

    def forward(self, batch: Batch) -> Tensor:
        """See `Head.forward`."""
        assert batch.scan is not None
        scan = 2 * batch.scan - 1
        if not self.injections:
            return self.unet(scan)  # type: ignore[no-any-return]
        slices = self.standardised(batch.slices)
        injections = list(self.injections)
        return self.unet(scan, lambda scale, skip: injections[scale](skip, slices, batch.depth))  # type: ignore[no-any-return]

    def parameter_counts(self) -> dict[str, int]:
        """Also ``injection``: what the U-Net would be without."""
        injected = sum(parameter.numel() for parameter in self.injections.parameters())
        return {**super().parameter_counts(), "injection": injected}

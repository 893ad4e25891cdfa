"""`decoder`: a light 3D decoder of dense features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featlift.segmentation.networks.blocks import convolutions, groups_of
from featlift.segmentation.networks.head import Batch, Head, Size

_NARROWEST = 16


class UpBlock(nn.Module):
    """Twice the size in-plane, depth as it is by default; then two 3x3x3 convolutions, each with group norm and GELU.

    Args:
        channels: given.
        width: returned.
        beside: channels of the scan that are put beside what is given, after upsampling.
        times: the size along d, h and w.
    """

    def __init__(self, channels: int, width: int, beside: int = 0, times: tuple[int, int, int] = (1, 2, 2)) -> None:
        super().__init__()
        self.times = times
        self.convolutions = convolutions(channels + beside, width)

    def forward(self, x: Tensor, scan: Tensor | None = None, size: tuple[int, int, int] | None = None) -> Tensor:
        """``(B, C, d, h, w)`` to ``(B, width, d, 2h, 2w)``, or as many times the size, or to a size."""
        times = None if size else self.times
        x = F.interpolate(x, size, times, mode="trilinear", align_corners=False)
        convolved: Tensor = self.convolutions(beside(x, scan))
        return convolved


def beside(x: Tensor, scan: Tensor | None) -> Tensor:
    """Put the scan, averaged to the size of x, beside its channels."""
    if scan is None:
        return x
    d, h, w = x.shape[2:]
    return torch.cat([x, F.adaptive_avg_pool3d(scan, (d, h, w))], dim=1)


def sizes_of(cells: Sequence[int], size: Size) -> Iterator[tuple[int, int, int]]:
    """Of (d, h, w) cells, the size after each up-block: about twice as large in-plane, in the end r times."""
    d, h, w = cells
    for left in reversed(range(size.doublings)):
        yield d, round(h * size.times / 2**left), round(w * size.times / 2**left)


def widths_of(width: int, doublings: int) -> list[int]:
    """Channels after the fusion and after each up-block: halved each time, 16 at least."""
    return [max(min(width, _NARROWEST), width >> level) for level in range(doublings + 1)]


class Decoder(Head):
    """Group norm, 1x1x1 fusion of all layers, n up-blocks that leave depth alone, a 1x1x1 classifier.

    The probing decoder of PlaneCycle (arXiv:2603.04165) and of its kind, without its dropout.

    Args:
        size: of the head.
        width: channels after the fusion.
        skip: put the scan beside what the fusion and every up-block are given.
    """

    needs = ("dense",)
    options: ClassVar[dict[str, Any]] = {"width": 64, "skip": False}

    def __init__(self, size: Size, width: int = 64, skip: bool = False) -> None:
        super().__init__(size)
        self.skip = skip
        shown = size.scan_channels if skip else 0
        widths = widths_of(width, size.doublings)
        self.norm = nn.GroupNorm(1, size.channels)
        self.fusion = nn.Sequential(
            nn.Conv3d(size.channels + shown, width, 1, bias=False), nn.GroupNorm(groups_of(width), width), nn.GELU()
        )
        self.up = nn.ModuleList(UpBlock(wide, slim, shown) for wide, slim in pairwise(widths))
        self.classifier = nn.Conv3d(widths[-1], size.classes, 1)

    @classmethod
    def needs_for(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Also the scan, for the skip."""
        return ("dense", "scan") if options.get("skip") else cls.needs

    def forward(self, batch: Batch) -> Tensor:
        """See `Head.forward`."""
        scan = batch.scan if self.skip else None
        x = self.fusion(beside(self.norm(self.standardised(batch.features)), scan))
        for block, to in zip(self.up, sizes_of(x.shape[2:], self.size), strict=True):
            x = block(x, scan, to)
        logits: Tensor = self.classifier(x)
        return logits

"""`subcube`: a volume taken apart into windows, decoded one by one and put together again (arXiv:2602.23962)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featlift.segmentation.networks.blocks import DepthTable, groups_of
from featlift.segmentation.networks.decoder import UpBlock, sizes_of, widths_of
from featlift.segmentation.networks.head import Batch, Head, Size

_PLACES = 64  # of the depth embedding


class Arm(nn.Module):
    """The decoding arm that all windows share: fusion, dropout, up-blocks."""

    def __init__(self, size: Size, width: int, dropout: float) -> None:
        super().__init__()
        widths = widths_of(width, size.doublings)
        self.size, self.width = size, widths[-1]
        self.fusion = nn.Sequential(
            nn.Conv3d(size.channels, width, 1, bias=False), nn.GroupNorm(groups_of(width), width), nn.GELU()
        )
        self.dropout = nn.Dropout3d(dropout)
        self.up = nn.ModuleList(UpBlock(wide, slim) for wide, slim in pairwise(widths))

    def forward(self, window: Tensor) -> Tensor:
        """``(B, C, d, h, w)`` to ``(B, width, d, r h, r w)``."""
        decoded: Tensor = self.dropout(self.fusion(window))
        for block, to in zip(self.up, sizes_of(window.shape[2:], self.size), strict=True):
            decoded = block(decoded, size=to)
        return decoded


class Subcube(Head):
    """Windows of frozen slice features, each told where it lies in depth, through one arm; then a dense head over all.

    Training passes each window twice. The first pass keeps nothing of the arm but its result; the dense head and the
    loss over the whole volume give the gradient at the assembled prediction. The second computes a window again, with
    the same dropout, and takes that gradient through it. So there is one window's worth of the arm in memory at a time,
    and the gradient is the ordinary one. Both passes are torch's activation checkpointing, a window being the segment.

    Args:
        size: of the head.
        width: channels of the arm after its fusion.
        window: (d, h, w) in cells, at most.
        dropout: probability that a channel of a window is left out.
        two_pass: False keeps all windows in memory.
    """

    needs = ("dense",)
    options: ClassVar[dict[str, Any]] = {"width": 64, "window": (8, 8, 8), "dropout": 0.1}
    whole = True

    def __init__(
        self,
        size: Size,
        width: int = 64,
        window: tuple[int, int, int] = (8, 8, 8),
        dropout: float = 0.1,
        two_pass: bool = True,
    ) -> None:
        super().__init__(size)
        self.window, self.two_pass = window, two_pass
        self.depth = DepthTable(size.channels, _PLACES)
        self.arm = Arm(size, width, dropout)
        width = self.arm.width
        self.dense_head = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1), nn.GELU(), nn.Conv3d(width, size.classes, 1)
        )

    def forward(self, batch: Batch) -> Tensor:
        """See `Head.forward`."""
        features = self.standardised(batch.features)
        features = features + rearrange(self.depth(batch.depth), "b c d -> b c d 1 1")
        windows = disassembled(features, self.window)
        whole = assembled([[[self._decoded(window) for window in row] for row in slab] for slab in windows])
        logits: Tensor = self.dense_head(whole)
        return logits

    def _decoded(self, window: Tensor) -> Tensor:
        arm: Callable[[Tensor], Tensor] = self.arm
        if self.two_pass and torch.is_grad_enabled():
            return checkpoint(arm, window, use_reentrant=False)  # type: ignore[no-any-return]
        return arm(window)


def disassembled(volume: Tensor, window: tuple[int, int, int]) -> list[list[list[Tensor]]]:
    """Non-overlapping windows of ``(B, C, d, h, w)`` by their place along d, h and w.

    As many along each axis as windows of the given size would be, all of nearly the same size: none is filled up.
    """
    d, h, w = (-(-size // length) for size, length in zip(volume.shape[2:], window, strict=True))
    return [
        [list(row.tensor_split(w, dim=4)) for row in slab.tensor_split(h, dim=3)]
        for slab in volume.tensor_split(d, dim=2)
    ]


def assembled(windows: list[list[list[Tensor]]]) -> Tensor:
    """Put decoded windows ``(B, C, d, r h, r w)`` where they were."""
    return torch.cat([torch.cat([torch.cat(row, dim=4) for row in slab], dim=3) for slab in windows], dim=2)

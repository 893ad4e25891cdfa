"""`linear`: what each cell says by itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from featlift.segmentation.networks.head import Batch, Head, Size


class Linear(Head):
    """A 1x1x1 convolution on dense features, upsampled: the usual linear evaluation (DINOv2, arXiv:2304.07193)."""

    needs = ("dense",)
    rate = 1e-2

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self.classifier = nn.Conv3d(size.channels, size.classes, 1)

    def forward(self, batch: Batch) -> Tensor:
        """See `Head.forward`."""
        logits: Tensor = self.classifier(self.standardised(batch.features))
        ratio = self.size.times
        return F.interpolate(logits, scale_factor=(1, ratio, ratio), mode="trilinear", align_corners=False)

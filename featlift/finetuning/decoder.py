"""From the lifted network's last layer to a score of each voxel: PlaneCycle's progressive decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featlift.encoders.native import NativeEncoder
from featlift.lifting import LiftedBackbone


@dataclass(frozen=True, eq=False)
class Masked:
    """Volumes with their labels, all of one shape.

    Attributes:
        volumes: ``(B, 1 or 3, D, H, W)`` of intensities in [0, 1].
        classes: of each voxel ``(B, D, H, W)`` int64, -1 where nothing is known.
    """

    volumes: Tensor
    classes: Tensor


class Segmenter(nn.Module):
    """A network and its decoder.

    Attributes:
        encoder: the network that makes features.
    """

    encoder: LiftedBackbone | NativeEncoder

    def forward(self, batch: Masked) -> Tensor:
        """Logits ``(B, K, D, H, W)``."""
        return self.logits(batch.volumes)

    def logits(self, volumes: Tensor) -> Tensor:
        """Logits ``(B, K, D, H, W)`` of volumes whose sizes are multiples of the network's."""
        raise NotImplementedError


class LiftedSegmenter(Segmenter):
    """A lifted network and PlaneCycle's decoder.

    Args:
        lifted: the network; its last layer is read.
        outputs: K; 1 for a single label, whose score is against the background.
        width: channels that the decoder begins with.
        dropout: of whole channels, behind each stage.
    """

    def __init__(self, lifted: LiftedBackbone, outputs: int, width: int = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder: LiftedBackbone = lifted
        self.decoder = Decoder(lifted.feature_layers[-1].channels, outputs, width, dropout)

    def logits(self, volumes: Tensor) -> Tensor:
        """See `Segmenter`."""
        dense = self.encoder(volumes).dense.to(self.decoder.norm.weight.dtype)
        logits: Tensor = self.decoder(dense)
        if logits.shape[2:] != volumes.shape[2:]:  # patches of another size than 16
            logits = F.interpolate(logits, volumes.shape[2:], mode="trilinear", align_corners=False)
        return logits


class Decoder(nn.Module):
    """Four stages that double rows and columns, never the depth: cells of 16 pixels become pixels.

    Names of parameters are those of the released `ProgressiveUpHead`, so that its weights load.

    Args:
        channels: C of the features.
        outputs: K.
        width: channels after the first convolution; halved by each of the first three stages.
        dropout: of whole channels, behind each stage.
    """

    def __init__(self, channels: int, outputs: int, width: int = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.fusion_conv = nn.Sequential(nn.Conv3d(channels, width, 1, bias=False), nn.GroupNorm(8, width), nn.ReLU())
        widths = (width, width // 2, width // 4, width // 8, 32)
        for number in range(4):
            setattr(self, f"up{number + 1}", _Stage(widths[number], widths[number + 1]))
        self.dropout = nn.Dropout3d(dropout)
        self.classifier = nn.Conv3d(widths[-1], outputs, 1)

    def forward(self, dense: Tensor) -> Tensor:
        """Features ``(B, C, D, h, w)`` to logits ``(B, K, D, 16 h, 16 w)``."""
        # torch's GroupNorm crashes on the way back where features are channels-last and of a frozen network
        x = self.fusion_conv(self.norm(dense.contiguous()))
        for number in range(4):
            x = self.dropout(getattr(self, f"up{number + 1}")(x))
        return self.classifier(x)  # type: ignore[no-any-return]


class _Stage(nn.Module):
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Upsample(scale_factor=(1, 2, 2), mode="trilinear", align_corners=False),
            nn.Conv3d(channels, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.GELU(),
            nn.Conv3d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.GELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


def segmentation_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """The released losses, as means over volumes: of one label binary, of several softmax.

    One label: binary cross-entropy + soft Dice loss (smoothing 1). Several: half the cross-entropy + soft Dice loss of
    the labels without background. Voxels of class -1 do not count.
    """
    logits = logits.float()
    known = classes >= 0
    if logits.shape[1] == 1:
        truth = (classes == 1).float()
        each = F.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none") * known
        crossed = (each.sum(dim=(1, 2, 3)) / known.sum(dim=(1, 2, 3)).clamp(min=1)).mean()
        return crossed + soft_dice_loss((logits[:, 0].sigmoid() * known)[:, None], (truth * known)[:, None])
    each = F.cross_entropy(logits, classes, ignore_index=-1, reduction="none")
    crossed = (each.sum(dim=(1, 2, 3)) / known.sum(dim=(1, 2, 3)).clamp(min=1)).mean()
    labels = torch.arange(1, logits.shape[1], device=classes.device).view(1, -1, 1, 1, 1)
    return 0.5 * crossed + soft_dice_loss(
        logits.softmax(dim=1)[:, 1:] * known[:, None], (classes[:, None] == labels).float()
    )


def soft_dice_loss(chances: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - the mean over volumes and labels of (2 sum p y + s) / (sum p + sum y + s); both ``(B, K, D, H, W)``."""
    over = (2, 3, 4)
    dice = (2 * (chances * truth).sum(over) + smooth) / (chances.sum(over) + truth.sum(over) + smooth)
    return 1 - dice.mean()

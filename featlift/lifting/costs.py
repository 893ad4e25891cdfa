"""What planes take on their way through the network, and what stays of them: by which batches are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featlift.backbones.backbone import Backbone, Layer
from featlift.lifting.spans import BlockSpan


@dataclass(frozen=True)
class PlaneCost:
    """What one plane takes on its way through the steps of a span.

    Attributes:
        values: at the most, before or after a step.
        held: bytes at the peak.
    """

    values: float
    held: float


def span_cost(backbone: Backbone, span: BlockSpan, values: float, embeds: bool = False) -> PlaneCost:
    """The cost of one plane of so many values in a span, with the embedding before it where the span begins there."""
    most, held = values, 0.0
    if embeds:
        stem = backbone.embed_footprint
        held = values * stem.peak * torch.float32.itemsize  # the type of intensities
        values *= stem.result
    for step in (backbone.footprints[block] for block in span.blocks):
        held = max(held, values * step.peak * backbone.dtype.itemsize)
        most = max(most, values)
        values *= step.result
    if torch.is_grad_enabled():  # on the way back all steps of a block are there at once
        held *= 2
    return PlaneCost(max(most, values), held)


def norm_cost(planes: Tensor) -> PlaneCost:
    """The cost of one of the planes ``(B, P, R, S, C)`` in the final norm."""
    return PlaneCost(planes[0, 0].numel(), 2 * planes[0, 0].nbytes)


def feature_bytes(layers: Sequence[Layer], volume: Tensor, dtype: torch.dtype) -> float:
    """Bytes of the dense features of layers, for volumes ``(B, channels, D, H, W)``."""
    voxels = volume.numel() / volume.shape[1]
    return sum(layer.channels * voxels / layer.sampling.stride**2 for layer in layers) * dtype.itemsize

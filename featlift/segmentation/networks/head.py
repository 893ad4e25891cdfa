"""What every head is: from what a store keeps of a scan to a score of each label at each predicted voxel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Batch:
    """What a head is given of B patches, or whole scans.

    d, h, w are cells, D, H, W predicted voxels, of which a cell has (1, r, r); C are channels of all layers together.

    Attributes:
        depth: where each slice lies in its volume, from 0, the first, to 1, the last, ``(B, D)``.
        features: ``(B, C, d, h, w)``; None for a head that asks for none.
        slices: mean patch token of each slice, ``(B, C, D)``; None likewise.
        scan: ``(B, 1 or 3, D, H, W)``; None likewise.
        labels: class of each predicted voxel ``(B, D, H, W)`` int64, -1 where there is no scan; or affinities of each
            ``(B, K, D, H, W)`` int8, -1 where they do not count; None where unknown.
    """

    depth: Tensor
    features: Tensor | None = None
    slices: Tensor | None = None
    scan: Tensor | None = None
    labels: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        held = {name: value for name, value in vars(self).items() if value is not None}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in held.items()})


@dataclass(frozen=True)
class Size:
    """What decides the shapes of a head's weights.

    Attributes:
        channels: C, of all layers together; 0 without features.
        classes: K, background included; or offsets of affinities.
        doublings: n, in how many steps cells are divided in-plane, each time in about two.
        scan_channels: 1, or 3 for three windows.
        ratio: r, predicted voxels of a cell in-plane, if it is not 2ⁿ.
    """

    channels: int
    classes: int
    doublings: int
    scan_channels: int = 1
    ratio: int | None = None

    @property
    def times(self) -> int:
        """Predicted voxels of a cell in-plane."""
        return self.ratio or 2**self.doublings


class Head(nn.Module, ABC):
    """A segmentation head.

    Features are standardised by the mean and standard deviation of each channel over the training cases, which are kept
    with the weights.

    Args:
        size: of the head.
    """

    #: What of a volume it reads: of ``dense``, ``slice_mean`` and ``scan``.
    needs: ClassVar[tuple[str, ...]]
    #: Its own options and their defaults.
    options: ClassVar[dict[str, Any]] = {}
    #: Whether it is trained on whole volumes rather than patches.
    whole: ClassVar[bool] = False
    #: Learning rate that suits it.
    rate: ClassVar[float] = 3e-3

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.zeros(size.channels))
        self.register_buffer("std", torch.ones(size.channels))

    mean: Tensor
    std: Tensor

    @classmethod
    def needs_for(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """What of a volume it reads with these options."""
        return cls.needs

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Logits ``(B, K, D, H, W)`` on the predicted voxels."""

    def standardised(self, features: Tensor | None) -> Tensor:
        """Features ``(B, C, ...)`` with mean 0 and standard deviation 1 in each channel."""
        assert features is not None, f"{type(self).__name__} was given no features"
        shape = (1, -1, *[1] * (features.ndim - 2))
        return (features - self.mean.view(shape)) / self.std.view(shape)

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of trainable parameters: ``trainable``, and parts of them that a paper names."""
        return {"trainable": sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)}

"""`VolumeEncoder`: what extraction asks of whatever makes features of a volume, lifted from 2D or 3D by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from featlift.backbones.sampling import FeatureLayer, Triple
from featlift.lifting.features import Features


class VolumeEncoder(Protocol):
    """Makes features of volumes. `featlift.lifting.LiftedBackbone` is one; a 3D network becomes one with these members.

    Everything that changes features belongs into `recipe`: stores hold features of one recipe only.
    """

    @property
    def name(self) -> str:
        """Of the network, for people."""

    @property
    def feature_layers(self) -> tuple[FeatureLayer, ...]:
        """The layers that it returns, shallow to deep."""

    @property
    def token_names(self) -> tuple[str, ...]:
        """Names of the global tokens, the class token as ``cls`` first; empty without any."""

    @property
    def tokens_per_slice(self) -> bool:
        """Whether every slice of cells has global tokens of its own; otherwise the volume has one set."""

    @property
    def size_multiple(self) -> Triple:
        """What D, H and W of a volume must be multiples of."""

    @property
    def normed(self) -> bool:
        """Whether a final norm was applied to every layer."""

    @property
    def device(self) -> torch.device:
        """Where it computes, and wants its volumes."""

    @property
    def weights(self) -> Mapping[str, str]:
        """Where the weights came from, and as ``sha256`` which they are."""

    def recipe(self) -> dict[str, Any]:
        """Everything of it that changes features, as JSON values, such as ``model``, ``weights_sha256``, ``layers``."""

    def looking_at(self, offsets: Sequence[float | None] | None) -> VolumeEncoder:
        """The same with cells where a store has them, by its recipe's ``offsets``; None where the network has them."""

    def __call__(self, volume: Tensor) -> Features:
        """Features of volumes ``(B, 1 or 3, D, H, W)`` of intensities in [0, 1]."""

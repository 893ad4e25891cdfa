"""What lifting returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from featlift.cards import card, component_colours, thumbnail, times


@dataclass(frozen=True, repr=False)
class LayerFeatures:
    """Features of one layer.

    Attributes:
        dense: ``(B, C, D, h, w)``, one vector a patch (or cell of a convolutional network) and slice.
        tokens: global tokens ``(B, D, g, C)``, class token first; mode 3d: ``(B, 1, g, C)``; g = 0 without any.
    """

    dense: Tensor
    tokens: Tensor

    def __repr__(self) -> str:
        return f"dense {times(self.dense.shape)}, tokens {times(self.tokens.shape)}"


@dataclass(frozen=True, repr=False)
class Features:
    """Features of every layer asked for, by absolute index; `dense` and `tokens` are those of the deepest."""

    layers: dict[int, LayerFeatures]

    @property
    def dense(self) -> Tensor:
        """Dense features ``(B, C, D, h, w)`` of the deepest layer."""
        return self.layers[max(self.layers)].dense

    @property
    def tokens(self) -> Tensor:
        """Global tokens ``(B, D, g, C)`` of the deepest layer."""
        return self.layers[max(self.layers)].tokens

    def _repr_html_(self) -> str:
        return _card_of(self)

    def __repr__(self) -> str:
        return f"<features, {'; '.join(f'layer {index}: {layer}' for index, layer in self.layers.items())}>"


def _card_of(features: Features) -> str:
    """Shapes, and the middle slice of the first volume in colours of its own."""
    facts = {f"layer {index}": layer for index, layer in features.layers.items()}
    values = features.dense[0].detach()
    plane = values[:, values.shape[1] // 2].float().cpu().numpy()
    picture = thumbnail(np.moveaxis(component_colours(plane), 0, -1), name="features")
    return card("features", {**facts, "of": f"{values.dtype}, {values.device}".replace("torch.", "")}, [picture])

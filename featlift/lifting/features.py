"""What lifting returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
        return f"dense {_times(self.dense)}, tokens {_times(self.tokens)}"


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

    def __repr__(self) -> str:
        return f"<features, {'; '.join(f'layer {index}: {layer}' for index, layer in self.layers.items())}>"


def _times(values: Tensor) -> str:
    return " x ".join(map(str, values.shape))

"""The axes of a network that was trained on volumes lying another way than ours."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from featlift.backbones.sampling import FeatureLayer, Triple


@dataclass(frozen=True)
class Axes:
    """Which axes of a volume are those of the network.

    Attributes:
        order: the volume's axis that each of the network's is.
        flipped: of the volume's axes, which run the other way in the network. Volumes must be whole strides long.
    """

    order: Triple = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def to_network(self, volume: Tensor) -> Tensor:
        """A volume ``(B, C, D, H, W)`` as the network sees it."""
        return volume.flip(self._flips).permute(0, 1, *(2 + axis for axis in self.order))

    def of_volume(self, features: Tensor) -> Tensor:
        """Features of the network as ``(B, C, d, h, w)`` of the volume."""
        return features.permute(0, 1, *(2 + self.order.index(axis) for axis in range(3))).flip(self._flips)

    def sizes(self, of_network: Triple) -> Triple:
        """Sizes along the volume's axes, of those along the network's."""
        d, h, w = (of_network[self.order.index(axis)] for axis in range(3))
        return d, h, w

    def layer(self, layer: FeatureLayer) -> FeatureLayer:
        """A layer of the network along the volume's axes.

        From the other end, cell i of n lies at ``stride n - 1 - (offset + stride (n - 1 - i))``.
        """
        stride = self.sizes(layer.stride)
        along = (layer.offset[self.order.index(axis)] for axis in range(3))
        d, h, w = (
            step - 1 - start if flip else start for start, step, flip in zip(along, stride, self.flipped, strict=True)
        )
        return replace(layer, stride=stride, offset=(d, h, w))

    @property
    def _flips(self) -> list[int]:
        return [2 + axis for axis, flip in enumerate(self.flipped) if flip]

"""The stages of a 3D network, and where their cells are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from featlift.backbones.sampling import FeatureLayer, Sampling, Triple
from featlift.errors import LiftingError

#: Where the cells of a grid are, along each of the axes.
Place = tuple[Sampling, Sampling, Sampling]

VOXELS: Place = (Sampling(), Sampling(), Sampling())

_WINDOWS = (nn.Conv3d, nn.AvgPool3d, nn.MaxPool3d)


class Stages(nn.Module):
    """A 3D network as a list of stages; what a kind of network subclasses.

    Attributes:
        layers: every stage, shallow to deep, indices from 0, along the network's own axes.
        channels: of the volumes that it takes.
    """

    layers: tuple[FeatureLayer, ...]
    channels: int = 1

    def forward(self, volume: Tensor, last: int) -> Sequence[Tensor]:
        """The outputs of the stages 0 to `last`, or more of them.

        Args:
            volume: ``(B, channels, D, H, W)``, sizes multiples of the stride of stage `last`.
            last: index of the deepest stage that is needed.

        Returns:
            ``(B, C, d, h, w)`` of each.
        """
        raise NotImplementedError

    def find(self, name: str, wanted: Sequence[int | str]) -> tuple[FeatureLayer, ...]:
        """The layers asked for, shallow to deep, each once.

        Raises:
            LiftingError: a layer that the network does not have.
        """
        found = {layer.index: layer for layer in (self._find(name, which) for which in wanted)}
        if not found:
            raise LiftingError("no layer asked for: give at least one, -1 is the last")
        return tuple(found[index] for index in sorted(found))

    def _find(self, name: str, which: int | str) -> FeatureLayer:
        layers, text = self.layers, str(which)
        if re.fullmatch(r"-?\d+", text) and -len(layers) <= int(text) < len(layers):
            return layers[int(text)]
        fitting = [layer for layer in layers if text == f"stride{max(layer.stride)}"]
        if fitting:
            return fitting[-1]
        raise LiftingError(
            f"layer {which!r}: {name} has layers 0 to {len(layers) - 1} (or -{len(layers)} to -1), strides "
            f"{', '.join(shown(layer.stride) for layer in layers)} along its axes"
        )

    def multiple(self, last: int) -> Triple:
        """What the sizes of a volume must be multiples of, for the stages 0 to `last`."""
        strides = [layer.stride for layer in self.layers[: last + 1]]
        d, h, w = (math.lcm(*along) for along in zip(*strides, strict=True))
        return d, h, w


def through(place: Place, modules: Iterable[nn.Module]) -> Place:
    """Where the cells are after convolutions and poolings one after the other; other modules keep the grid."""
    for module in modules:
        if isinstance(module, _WINDOWS):
            windows = zip(*(_triple(getattr(module, name, 1)) for name in _OF_WINDOWS), strict=True)
            d, h, w = (axis.then(*window) for axis, window in zip(place, windows, strict=True))
            place = (d, h, w)
    return place


_OF_WINDOWS = ("kernel_size", "stride", "padding", "dilation")


def main_path(stage: nn.Module, beside: tuple[str, ...] = ()) -> list[nn.Module]:
    """The modules of a stage in their order, without the branches of these names beside it."""
    return [module for name, module in stage.named_modules() if not set(name.split(".")) & set(beside)]


def layer_at(index: int, name: str, channels: int, place: Place) -> FeatureLayer:
    """The layer whose cells are there."""
    d, h, w = place
    return FeatureLayer(
        index, name, channels, (d.stride, h.stride, w.stride), (float(d.offset), float(h.offset), float(w.offset))
    )


def shown(sizes: Sequence[int]) -> str:
    """Sizes along the axes, for people."""
    return "x".join(map(str, sizes))


def _triple(value: Any) -> tuple[int, int, int]:
    d, h, w = (value,) * 3 if isinstance(value, int) else value
    return int(d), int(h), int(w)

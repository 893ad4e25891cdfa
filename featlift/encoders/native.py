"""`NativeEncoder`: a 3D network as an encoder of volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import torch
from torch import Tensor, nn

from featlift.backbones.sampling import FeatureLayer, Triple
from featlift.encoders.axes import Axes
from featlift.encoders.costs import pass_bytes
from featlift.encoders.request import Request
from featlift.encoders.stages import Stages, shown
from featlift.errors import LiftingError, LiftingMemoryError, OptionError
from featlift.lifting.budget import free_bytes, is_out_of_memory
from featlift.lifting.features import Features, LayerFeatures
from featlift.lifting.tiles import in_tiles
from featlift.sizes import human_bytes


class NativeEncoder(nn.Module):
    """A 3D network whose stages are layers; see `featlift.lifting.VolumeEncoder` for its members.

    Args:
        name: of the network, for people and the recipe.
        stages: the network, in evaluation mode.
        request: what was asked for.
        weights: where they came from, and as ``sha256`` which they are.
        tile: of the network itself, along its own axes; that of the request takes its place. None sees volumes whole.
        axes: which of a volume's axes are the network's.
        mean: of each channel of the intensities.
        std: of each channel: what the network takes is ``(x - mean) / std``.
        about: what else changes a feature, for the recipe, as JSON values.
        preparation: options of the preparation that the network was trained with, by name.

    Raises:
        LiftingError: a layer that it does not have.
        OptionError: a tile that is no whole number of cells.
        LiftingMemoryError: a tile that takes more memory than there is.
    """

    token_names: tuple[str, ...] = ()
    tokens_per_slice = False
    normed = False

    def __init__(
        self,
        name: str,
        stages: Stages,
        request: Request,
        weights: Mapping[str, str],
        *,
        tile: Triple | None = None,
        axes: Axes | None = None,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        about: Mapping[str, Any] | None = None,
        preparation: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.axes = axes or Axes()
        self.name = name
        self.stages = stages.to(request.device, request.dtype).eval().requires_grad_(False)
        self.weights = weights
        self.mean, self.std = mean, std
        self.about = dict(about or {})
        self.preparation = dict(preparation or {})
        self.read(request.layers)
        self.tile = request.tile or (None if tile is None else self.axes.sizes(tile))
        self._request = request
        self._known_to_fit: set[tuple[int, ...]] = set()
        if self.tile is not None:
            self._check_tile(self.tile)
            self._check_memory((1, stages.channels, *self.tile))

    def read(self, layers: Sequence[int | str]) -> None:
        """Return these stages from now on; one that there is not raises a LiftingError."""
        chosen = self.stages.find(self.name, layers)
        self.feature_layers: tuple[FeatureLayer, ...] = tuple(map(self.axes.layer, chosen))
        self.size_multiple = self.axes.sizes(self.stages.multiple(chosen[-1].index))

    def train(self, mode: bool = True) -> Self:
        """Training mode, for what is being trained: a frozen network stays as it is, batch norms among it."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    @property
    def device(self) -> torch.device:
        """See `VolumeEncoder`."""
        return self._request.device

    @property
    def channels(self) -> int:
        """Of the volumes that it takes."""
        return self.stages.channels

    def recipe(self) -> dict[str, Any]:
        """See `VolumeEncoder`."""
        plain = self.mean == (0.0,) and self.std == (1.0,)
        return {
            "model": self.name,
            "model_args": {key: _as_json(value) for key, value in sorted(self._request.arguments.items())},
            "weights_sha256": self.weights["sha256"],
            "weights_prefix": self._request.weights_prefix,
            "mean": None if plain else list(self.mean),
            "std": None if plain else list(self.std),
            "mode": "native",
            "layers": [layer.index for layer in self.feature_layers],
            "tile": None if self.tile is None else list(self.tile),
            "precision": self._request.precision,
            **self.about,
        }

    def looking_at(self, offsets: Sequence[float | None] | None) -> NativeEncoder:
        """See `VolumeEncoder`: its cells are where its strides and paddings put them."""
        if offsets is not None:
            raise LiftingError(f"{self.name}: its recipe has no offsets, those of the store are another network's")
        return copy(self)

    def forward(self, volume: Tensor) -> Features:
        """Features of volumes ``(B, channels, D, H, W)``, whole or in tiles.

        Raises:
            LiftingError: other channels or sizes than the network takes, or too small for the stages asked for.
            LiftingMemoryError: a volume, or a tile of it, that takes more memory than there is.
        """
        self._check(volume)
        tile = self.tile or (volume.shape[2], volume.shape[3], volume.shape[4])
        seen = tuple(min(pair) for pair in zip(tile, volume.shape[2:], strict=True))
        self._check_memory((len(volume), self.stages.channels, *seen))
        home = torch.device("cpu") if self._request.offload else self.device
        try:
            return in_tiles(self._encode, volume, tile, self.size_multiple, self.feature_layers, home)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise LiftingMemoryError(f"{self.name}: no memory for {shown(seen)} voxels at once: {_SMALLER}") from error

    def _encode(self, volume: Tensor) -> Features:
        """Features of a volume, or a tile of one, in one pass."""
        mean, std = (torch.tensor(each, device=volume.device).view(-1, 1, 1, 1) for each in (self.mean, self.std))
        seen = self.axes.to_network((volume - mean) / std).to(self._request.dtype)
        found = self.stages(seen, self.feature_layers[-1].index)
        none = {layer.index: volume.new_zeros(len(volume), 1, 0, layer.channels) for layer in self.feature_layers}
        return Features({index: LayerFeatures(self.axes.of_volume(found[index]), none[index]) for index in none})

    def _check(self, volume: Tensor) -> None:
        channels = self.stages.channels
        if volume.ndim != 5 or 0 in volume.shape:
            raise LiftingError(f"volume of shape {tuple(volume.shape)}: give (B, {channels}, D, H, W)")
        if volume.shape[1] != channels:
            raise LiftingError(
                f"it has {volume.shape[1]} channels, {self.name} takes {channels}: --channels brings several "
                "images of one patient together, --intensity ct:LO,HI+LO,HI+LO,HI makes three of one"
            )
        sizes = volume.shape[2:]
        if any(size % step for size, step in zip(sizes, self.size_multiple, strict=True)):
            raise LiftingError(
                f"volume of {shown(sizes)} voxels: {self.name} takes multiples of {shown(self.size_multiple)}; pad it "
                "first, as featlift.volumes.grid.pad does"
            )
        deepest = self.feature_layers[-1]
        if all(size == step for size, step in zip(sizes, deepest.stride, strict=True)):
            raise LiftingError(
                f"volume of {shown(sizes)} voxels, with padding, is a single cell of layer {deepest.index} of "
                f"{self.name}: too small for it, give a shallower one with --layers"
            )

    def _check_tile(self, tile: Triple) -> None:
        bad = any(length < step or length % step for length, step in zip(tile, self.size_multiple, strict=True))
        deepest = self.feature_layers[-1]
        if bad or all(length == step for length, step in zip(tile, deepest.stride, strict=True)):
            raise OptionError(
                f"--tile {','.join(map(str, tile))}: layer {deepest.index} of {self.name} takes multiples of "
                f"{','.join(map(str, self.size_multiple))}, and more than one cell"
            )

    def _check_memory(self, shape: tuple[int, ...]) -> None:
        """Refuse what would take more memory than there is: a host that runs out raises no error."""
        if shape in self._known_to_fit:
            return
        most = self._request.memory
        if most is None and self.device.type != "cuda":  # which says so itself
            most = free_bytes(self.device)
        if most is not None:
            seen = self.axes.to_network(torch.empty(shape, device="meta")).shape
            needed = pass_bytes(self.stages, tuple(seen), self.feature_layers[-1].index, self._request.dtype)
            if needed is not None and needed > most:
                raise LiftingMemoryError(
                    f"{self.name}: {shown(shape[2:])} voxels at once take about {human_bytes(needed)}, there are "
                    f"{human_bytes(most)}: {_SMALLER}"
                )
        self._known_to_fit.add(shape)


_SMALLER = "give smaller tiles with --tile D,H,W, or more with --memory"


def _as_json(value: object) -> object:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json(each) for key, each in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, (list, tuple)) else repr(value)

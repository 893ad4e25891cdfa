"""MONAI's 3D networks: ``monai:SegResNet``, ``monai:SegResEncoder``, ``monai:SwinUNETR``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featlift.encoders.catalogue import INSTALL, MONAI_NAMES
from featlift.encoders.native import NativeEncoder
from featlift.encoders.request import Request
from featlift.encoders.stages import VOXELS, Stages, layer_at, main_path, through
from featlift.encoders.states import weighted
from featlift.errors import ModelError


class SegResNetStages(Stages):
    """The way down of a SegResNet: a stage for each of ``blocks_down``, strides 1, 2, 4, 8."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.channels = network.in_channels
        self.first, self.down = network.convInit, network.down_layers
        place, layers = through(VOXELS, self.first.modules()), []
        for index, stage in enumerate(self.down):
            place = through(place, stage.modules())
            layers.append(layer_at(index, f"down_layers.{index}", network.init_filters * 2**index, place))
        self.layers = tuple(layers)

    def forward(self, volume: Tensor, last: int) -> Sequence[Tensor]:
        """See `Stages`."""
        found = [self.first(volume)]
        for stage in self.down[: last + 1]:
            found.append(stage(found[-1]))
        return found[1:]


class SegResEncoderStages(Stages):
    """A SegResEncoder, as CT-FM trained one: a stage for each of ``blocks_down``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.channels = network.in_channels
        self.first, self.levels = network.conv_init, network.layers
        place, layers = through(VOXELS, self.first.modules()), []
        for index, level in enumerate(self.levels):
            place = through(place, main_path(level, ("downsample",)))
            layers.append(layer_at(index, f"layers.{index}.blocks", network.init_filters * 2**index, place))
            place = through(place, level["downsample"].modules())
        self.layers = tuple(layers)

    def forward(self, volume: Tensor, last: int) -> Sequence[Tensor]:
        """See `Stages`."""
        found, x = [], self.first(volume)
        for level in self.levels[: last + 1]:
            x = level["blocks"](x)
            found.append(x)
            if len(found) <= last:
                x = level["downsample"](x)
        return found


class SwinStages(Stages):
    """The Swin transformer of a SwinUNETR: the patch embedding and four stages, strides 2, 4, 8, 16, 32."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        swin = network.swinViT
        self.channels = swin.patch_embed.proj.in_channels
        self.swin, self.normalize = swin, network.normalize
        place, layers = through(VOXELS, swin.patch_embed.modules()), []
        for index in range(swin.num_layers + 1):
            if index:  # merging takes two cells along each axis together
                d, h, w = (along.then(2, 2, 0) for along in place)
                place = (d, h, w)
            name = f"swinViT.layers{index}" if index else "swinViT.patch_embed"
            layers.append(layer_at(index, name, swin.embed_dim * 2**index, place))
        self.layers = tuple(layers)

    def forward(self, volume: Tensor, last: int) -> Sequence[Tensor]:
        """See `Stages`: all five, the deepest cost least."""
        found: Sequence[Tensor] = self.swin(volume, self.normalize)
        return found


#: For each network: MONAI's class, its stages, the keys that features pass through, arguments it has to have.
_KINDS: dict[str, tuple[str, type[Stages], str, dict[str, Any]]] = {
    "SegResNet": ("monai.networks.nets.segresnet", SegResNetStages, "convInit.|down_layers.", {}),
    "SegResEncoder": ("monai.networks.nets.segresnet_ds", SegResEncoderStages, "", {}),
    "SwinUNETR": (
        "monai.networks.nets.swin_unetr",
        SwinStages,
        "swinViT.",
        {"in_channels": 1, "out_channels": 2},  # the second is of the decoder
    ),
}


def load(request: Request) -> NativeEncoder:
    """A network of MONAI by its class's name, arguments those of the class.

    Raises:
        ModelError: no such network, MONAI is not installed, or it refuses the arguments.
        WeightsError: no weights, or those of another architecture.
    """
    if request.name not in _KINDS:
        raise ModelError(f"monai:{request.name}: choose one of {', '.join(f'monai:{name}' for name in MONAI_NAMES)}")
    module, stages, encoder, needed = _KINDS[request.name]
    name = f"monai:{request.name}"
    arguments = {**needed, **request.arguments}
    if arguments.get("spatial_dims", 3) != 3:
        raise ModelError(f"{name}: spatial_dims={arguments['spatial_dims']}; featlift takes it in three dimensions")
    try:
        from importlib import import_module

        make = getattr(import_module(module), request.name)
    except ImportError as error:
        raise ModelError(f"{name} needs MONAI ({error}): {INSTALL}") from error
    network: nn.Module
    network, weights = weighted(request, name, lambda: make(**arguments), encoder)
    with torch.no_grad():
        return NativeEncoder(name, stages(network), request, weights)

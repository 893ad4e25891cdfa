"""timm's ConvNeXt, ResNet and EfficientNet as backbones.

A strided or otherwise shape-changing layer can only run slice by slice in HW, where the network's scale lives; the
blocks between them, counted by themselves, take the planes of the cycle in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from featlift.backbones.backbone import Backbone, Layer
from featlift.backbones.footprint import footprint_of
from featlift.backbones.sampling import Sampling, compose
from featlift.backbones.stem import cuts_patches, grey_stem
from featlift.errors import ModelError

#: Children of a block beside its main path: they do not move its cells.
_SIDE_PATHS = {"ResNet": ("downsample",), "ConvNeXt": ("shortcut",), "EfficientNet": ()}


class ConvolutionalBackbone(Backbone):
    """A convolutional network as a stem and a list of blocks; its layers are those of timm's ``feature_info``."""

    #: Keys of timm's model that features never pass through.
    UNUSED = ("head.fc.", "head.pre_logits.", "fc.", "classifier.", "conv_head.", "bn2.")

    def __init__(self, net: Any, name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(net, name, mean, std)
        for head in ("fc", "classifier", "conv_head", "global_pool"):
            if hasattr(net, head):
                setattr(net, head, nn.Identity())
        if self.family == "EfficientNet":
            net.bn2 = nn.Identity()
        self._stem, stages = _STAGES[self.family](net)
        self.blocks = [block for stage in stages for block in stage]
        self.eval()  # or the probe would move the running means of the batch norms
        self._changes_shape = self._probe()
        self.layers = self._find_layers([len(stage) for stage in stages])

    def embed(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """See `Backbone.embed`: here the stem."""
        features = slices.contiguous(memory_format=torch.channels_last)
        for module in self._stem:
            features = module(features)
        return _planes_of(features)

    def embed_intensities(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """See `Backbone.embed_intensities`: ConvNeXt's stem takes grey slices in one convolution."""
        foldable = self.family == "ConvNeXt" and cuts_patches(self._stem[0][0]) and self.dtype == torch.float32
        if slices.shape[1] != 1 or torch.is_grad_enabled() or not foldable:
            return super().embed_intensities(slices)
        folded = grey_stem(self._stem[0][0], self.mean, self.std)
        folded = {f"0.{name}": value for name, value in folded.items()}
        return _planes_of(torch.func.functional_call(self._stem[0], folded, slices.float()))

    def run_block(self, index: int, planes: Tensor, tokens: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Backbone.run_block`. Channel-last planes are what convolutions call the channels_last format."""
        return _planes_of(self.blocks[index](planes.contiguous().permute(0, 3, 1, 2)))

    def changes_shape(self, index: int) -> bool:
        """See `Backbone.changes_shape`."""
        return self._changes_shape[index]

    def has_norm(self, layer: Layer) -> bool:
        """See `Backbone.has_norm`: only ConvNeXt has one, for its last stage."""
        return self.family == "ConvNeXt" and layer.index == self.layers[-1].index

    def norm(self, layer: Layer, planes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See `Backbone.norm`."""
        if not self.has_norm(layer):
            return planes, tokens
        net = self.net
        # before the pooling (norm_pre) or, as published, after it (head.norm): whichever the model has
        norm = net.norm_pre if not isinstance(net.norm_pre, nn.Identity) else net.head.norm
        maps = planes.reshape(-1, *planes.shape[-3:]).permute(0, 3, 1, 2)
        return norm(maps).permute(0, 2, 3, 1).reshape(planes.shape), tokens

    def _probe(self) -> list[bool]:
        """Run a blank image through the network: the memory of each block, and whether it returns another shape."""
        changes: list[bool] = []
        self.footprints = []
        planes = torch.zeros(1, 3, 128, 128, device=self.device, dtype=self.dtype)
        self.embed_footprint = footprint_of(self.embed, planes)
        with torch.no_grad():
            planes, tokens = self.embed(planes)
            for index in range(self.num_blocks):
                self.footprints.append(footprint_of(partial(self.run_block, index), planes, tokens, None))
                before = planes.shape
                planes, tokens = self.run_block(index, planes, tokens, None)
                changes.append(planes.shape != before)
        return changes

    def _find_layers(self, stage_lengths: list[int]) -> tuple[Layer, ...]:
        """The outputs that ``feature_info`` names, with the position of their cells."""
        net = self.net
        sampling = compose(Sampling(), _main_path(self._stem, self.family))
        after, ends = 0, {0: (0, sampling)}  # stage -> (blocks run by then, sampling)
        for stage, length in enumerate(stage_lengths, start=1):
            sampling = compose(sampling, _main_path(self.blocks[after : after + length], self.family))
            after += length
            ends[stage] = (after, sampling)
        layers = []
        first_stage = 1 if self.family == "ConvNeXt" else 0
        for index, info in enumerate(net.feature_info):
            after, sampling = ends[info.get("stage", index + first_stage)]
            if sampling.stride != info["reduction"]:
                raise ModelError(
                    f"{self.name}: {info['module']} has stride {info['reduction']} but its windows compose to "
                    f"{sampling.stride}, so the position of its cells is unknown"
                )
            layers.append(Layer(index, info["module"], after, info["num_chs"], sampling))
        return tuple(layers)


def _planes_of(features: Tensor) -> tuple[Tensor, Tensor]:
    """Feature maps ``(N, C, R, S)`` as planes, channel last, and no tokens."""
    planes = features.permute(0, 2, 3, 1)
    return planes, planes.new_empty(len(planes), 0, planes.shape[-1])


def _main_path(blocks: list[Any], family: str) -> Iterator[nn.Module]:
    """Every module that the features of `blocks` pass through in order, side paths left out."""
    for block in blocks:
        if not list(block.children()):
            yield block
        for name, child in block.named_children():
            if name not in _SIDE_PATHS[family]:
                yield from _main_path([child], family)


def _convnext_stages(net: Any) -> tuple[list[Any], list[list[Any]]]:
    stages = []
    for stage in net.stages:
        downsample = [] if isinstance(stage.downsample, nn.Identity) else [stage.downsample]
        stages.append([*downsample, *stage.blocks])
    return [net.stem], stages


def _resnet_stages(net: Any) -> tuple[list[Any], list[list[Any]]]:
    stages = [[net.maxpool, *net.layer1], [*net.layer2], [*net.layer3], [*net.layer4]]
    return [net.conv1, net.bn1, net.act1], stages


def _efficientnet_stages(net: Any) -> tuple[list[Any], list[list[Any]]]:
    return [net.conv_stem, net.bn1], [[*stage] for stage in net.blocks]


_STAGES = {"ConvNeXt": _convnext_stages, "ResNet": _resnet_stages, "EfficientNet": _efficientnet_stages}

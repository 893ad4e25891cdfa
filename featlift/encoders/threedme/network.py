"""The network of 3DME: patches through a transformer, the volume through convolutions, and both of each other."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featlift.backbones.sampling import Triple
from featlift.backbones.torchvision_guard import import_timm
from featlift.encoders.stages import VOXELS, Stages, layer_at, shown, through
from featlift.encoders.threedme.config import ThreeDMEConfig
from featlift.encoders.threedme.deformable import DeformableAttention
from featlift.encoders.threedme.position import position_codes
from featlift.errors import LiftingError

_norm = partial(nn.LayerNorm, eps=1e-6)


class ThreeDME(Stages):
    """3DME's encoder; a stage is what leaves a fusion of its two branches, each of the stride of a patch.

    Args:
        config: its sizes.
        checkpointing: whether blocks and fusions keep their input alone for the way back.
    """

    channels = 1

    def __init__(self, config: ThreeDMEConfig, checkpointing: bool = False) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        self.patches = nn.Conv3d(1, config.width, config.patch, config.patch)
        self.convolutions = convolutions(config)
        self.blocks = nn.ModuleList(transformer_block(config) for _ in range(config.depth))
        self.fusions = nn.ModuleList(Fusion(config) for _ in config.fuse_after)
        place = through(VOXELS, [self.patches])
        self.layers = tuple(
            layer_at(index, f"fusions.{index}", config.width, place) for index in range(len(self.fusions))
        )
        self.apply(_start)
        for fusion in self.fusions:
            fusion.start()  # type: ignore[operator]

    def forward(self, volume: Tensor, last: int = -1) -> list[Tensor]:
        """The outputs ``(B, C, d, h, w)`` of the fusions 0 to `last`, -1 for all.

        Args:
            volume: ``(B, 1, D, H, W)``, sizes multiples of a patch.
            last: index of the deepest one that is needed.

        Raises:
            LiftingError: another shape.
        """
        grid = self.grid(volume)
        z = self.patches(volume).flatten(2).transpose(1, 2) + self.position(grid)
        f = self.convolutions(volume).flatten(2).transpose(1, 2)
        found: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            z = self._run(block, z)
            if number in self.config.fuse_after:
                z, f = self._run(self.fusions[len(found)], z, f, grid)
                found.append(z.transpose(1, 2).reshape(len(z), -1, *grid))
                if len(found) == last + 1:
                    break
        return found

    def tokens(self, volume: Tensor) -> Tensor:
        """The last tokens ``(B, N, C)``, of the cells of `grid` in row-major order; positions are `position`.

        Raises:
            LiftingError: another shape than ``(B, 1, D, H, W)`` in whole patches.
        """
        return self(volume)[-1].flatten(2).transpose(1, 2)  # type: ignore[no-any-return]

    def grid(self, volume: Tensor) -> Triple:
        """Patches along d, h and w of a volume ``(B, 1, D, H, W)``; another shape raises a LiftingError."""
        patch, sizes = self.config.patch, volume.shape[2:]
        if volume.ndim != 5 or volume.shape[1] != 1 or 0 in volume.shape or any(size % patch for size in sizes):
            raise LiftingError(
                f"volume of shape {shown(volume.shape)}: 3dme takes (B, 1, D, H, W) in multiples of {patch} voxels; "
                "pad it first, as featlift.volumes.grid.pad does"
            )
        d, h, w = (size // patch for size in sizes)
        return d, h, w

    def position(self, grid: Triple) -> Tensor:
        """Position codes ``(N, C)`` of a grid of patches, where the weights are and as they are."""
        codes = position_codes(grid, self.config.width, self.config.position)
        return codes.flatten(0, 2).to(self.patches.weight)

    def _run(self, module: nn.Module, *given: Any) -> Any:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *given, use_reentrant=False)
        return module(*given)


class Fusion(nn.Module):
    """Equations 6 and 7: the convolutions' map asks the tokens, then the tokens ask it; feed-forward, linear.

    Args:
        config: its sizes.
    """

    def __init__(self, config: ThreeDMEConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        attention = partial(
            DeformableAttention,
            width,
            config.deformable_heads,
            config.points,
            config.offset_scale,
            config.padding,
        )
        self.norm_z, self.norm_f, self.norm_fused = _norm(width), _norm(width), _norm(width)
        self.to_f, self.to_z = attention(), attention()
        self.feed_forward = nn.Sequential(_norm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.linear = nn.Linear(width, width)

    def start(self) -> None:
        """At the start the last layer leaves tokens as they are: it has no way around it."""
        self.to_f.start()
        self.to_z.start()
        nn.init.eye_(self.linear.weight)

    def forward(self, z: Tensor, f: Tensor, grid: Triple) -> tuple[Tensor, Tensor]:
        """Tokens and the map for what follows, both ``(B, N, C)``, of tokens z and a map f of the same grid."""
        normed = self.norm_z(z)
        f = f + self.to_f(self.norm_f(f), normed, grid)
        z = z + self.to_z(normed, self.norm_fused(f), grid)
        z = z + self.feed_forward(z)
        return self.linear(z), f


def convolutions(config: ThreeDMEConfig) -> nn.Sequential:
    """Convolutions of 3³ that halve the volume, to the grid of the patches, and one to the width of the tokens."""
    widths = (1, *config.convolutions, config.width)
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(widths)):
        stride = 2 if number < len(config.convolutions) else 1
        layers += [nn.Conv3d(before, after, 3, stride, 1, bias=False), nn.BatchNorm3d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def transformer_block(config: ThreeDMEConfig) -> nn.Module:
    """A block of a vision transformer, norms before attention and feed-forward: timm's."""
    make = import_timm().models.vision_transformer.Block
    block: nn.Module = make(config.width, config.heads, config.mlp_ratio, qkv_bias=True, norm_layer=_norm)
    return block


def _start(module: nn.Module) -> None:
    """Linear layers as vision transformers have them; convolutions stay as torch makes them."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

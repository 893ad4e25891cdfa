"""What is pretrained: the encoder, and a decoder that gives voxels back (3DME, section III-C)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featlift.backbones.sampling import Triple
from featlift.encoders.threedme import ThreeDME
from featlift.encoders.threedme.network import transformer_block

_BLOCKS = 3


@dataclass(frozen=True, eq=False)
class Masked:
    """A batch.

    Attributes:
        target: cubes of scans ``(B, 1, D, H, W)``.
        mask: likewise, true where they are not seen.
    """

    target: Tensor
    mask: Tensor

    @property
    def seen(self) -> Tensor:
        """The cubes, 0 where masked."""
        return self.target * ~self.mask

    def to(self, device: torch.device) -> Masked:
        """The same on a device."""
        return Masked(self.target.to(device), self.mask.to(device))


class Decoder(nn.Module):
    """Tokens to voxels: their positions again, three transformer blocks, a patch from each, and a 1³ convolution.

    Args:
        encoder: whose tokens they are; its kind of blocks and its positions are used.
    """

    def __init__(self, encoder: ThreeDME) -> None:
        super().__init__()
        config = encoder.config
        self.patch = config.patch
        self.blocks = nn.ModuleList(transformer_block(config) for _ in range(_BLOCKS))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.voxels = nn.Linear(config.width, config.patch**3)
        self.convolution = nn.Conv3d(1, 1, 1)
        self._start()

    def _start(self) -> None:
        """Linear layers as vision transformers have them; the convolution changes nothing."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.ones_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor, positions: Tensor, grid: Triple, checkpointing: bool = False) -> Tensor:
        """A volume ``(B, 1, D, H, W)``.

        Args:
            tokens: ``(B, N, C)``.
            positions: their codes ``(N, C)``.
            grid: (d, h, w), d h w = N.
            checkpointing: whether blocks keep their input alone for the way back.
        """
        x = tokens + positions
        for block in self.blocks:
            again = checkpointing and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        patches = self.voxels(self.norm(x))
        found: Tensor = self.convolution(unpatched(patches, grid, self.patch))
        return found


class Autoencoder(nn.Module):
    """The encoder with its decoder.

    Args:
        encoder: what is kept of a pretraining.
    """

    def __init__(self, encoder: ThreeDME) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder)

    def forward(self, batch: Masked) -> Tensor:
        """Volumes ``(B, 1, D, H, W)`` of what is seen of them."""
        seen, encoder = batch.seen, self.encoder
        grid = encoder.grid(seen)
        found: Tensor = self.decoder(encoder.tokens(seen), encoder.position(grid), grid, encoder.checkpointing)
        return found


def unpatched(patches: Tensor, grid: Triple, side: int) -> Tensor:
    """Patches ``(B, d h w, side³)`` in row-major order as a volume ``(B, 1, D, H, W)``."""
    d, h, w = grid
    cubes = patches.reshape(len(patches), d, h, w, side, side, side)
    return cubes.permute(0, 1, 4, 2, 5, 3, 6).reshape(len(patches), 1, d * side, h * side, w * side)

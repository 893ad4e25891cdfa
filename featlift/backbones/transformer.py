"""timm's VisionTransformer and Eva as backbones: DINOv2, DINOv3, CLIP, SigLIP, MAE and their relatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from featlift.backbones.backbone import Backbone, Layer
from featlift.backbones.rope import has_dinov3_rope, rope_3d
from featlift.backbones.sampling import patches
from featlift.errors import ModelError


class TransformerBackbone(Backbone):
    """A vision transformer: every block preserves the shape, so every block takes its turn in the cycle."""

    #: Keys of timm's model that features never pass through.
    UNUSED = ("head.", "fc_norm.", "attn_pool.", "head_dist.")

    def __init__(self, net: Any, name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(net, name, mean, std)
        patch = net.patch_embed.patch_size
        if type(net.patch_embed).__name__ != "PatchEmbed" or patch[0] != patch[1]:
            raise ModelError(f"{name}: its {type(net.patch_embed).__name__} {patch} is no plain square patch embedding")
        for head in ("head", "fc_norm", "head_dist"):
            if hasattr(net, head):
                setattr(net, head, nn.Identity())
        net.attn_pool = None
        self.num_blocks = len(net.blocks)
        self.layers = tuple(
            Layer(i, f"blocks.{i}", i + 1, net.embed_dim, patches(patch[0])) for i in range(self.num_blocks)
        )
        named = [name for name in ("cls", "dist") if getattr(net, f"{name}_token", None) is not None]
        self.token_names = (*named, *(f"reg{i}" for i in range(net.num_prefix_tokens - len(named))))

    def embed(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """See `Backbone.embed`."""
        net = self.net
        height, width = (n // self.stride for n in slices.shape[-2:])
        sequence = net._pos_embed(net.patch_embed(slices))
        sequence = net.norm_pre(sequence[0] if isinstance(sequence, tuple) else sequence)
        return self._split(sequence, height, width)

    def run_block(self, index: int, planes: Tensor, tokens: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Backbone.run_block`."""
        block = self.net.blocks[index]
        sequence = torch.cat([tokens, planes.flatten(1, 2)], dim=1)
        sequence = block(sequence) if rope is None else block(sequence, rope=rope)
        return self._split(sequence, *planes.shape[1:3])

    def rope(self, index: int, rows: int, columns: int) -> Tensor | None:
        """See `Backbone.rope`."""
        rope = getattr(self.net, "rope", None)
        if rope is None:
            return None
        embedding: Tensor = rope.get_embed(shape=(rows, columns))
        return embedding[index] if getattr(self.net, "rope_mixed", False) else embedding

    def rope_3d(self, depth: int, height: int, width: int) -> Tensor:
        """See `Backbone.rope_3d`."""
        if not has_dinov3_rope(self.net):
            return super().rope_3d(depth, height, width)
        rope = self.net.rope
        return rope_3d((depth, height, width), rope.dim, rope.temperature, rope.periods.device)

    def norm(self, layer: Layer, planes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See `Backbone.norm`: timm applies its final norm to every layer that is asked for with it."""
        return self.net.norm(planes), self.net.norm(tokens)

    def _split(self, sequence: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Take a sequence ``(N, g + R*S, C)`` apart into planes ``(N, R, S, C)`` and tokens ``(N, g, C)``."""
        g = len(self.token_names)
        return sequence[:, g:].unflatten(1, (rows, columns)), sequence[:, :g]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TransformerBackbone:
        # timm recomputes its periods when a cast rounds them, which would lose those of the weights' file
        periods = self.net.rope.periods if has_dinov3_rope(self.net) else None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if periods is not None:
            self.net.rope.periods = periods.to(self.device)
        return self

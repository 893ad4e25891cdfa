"""timm's VisionTransformer and Eva as backbones: DINOv2, DINOv3, CLIP, SigLIP, MAE and their relatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from featlift.backbones.backbone import Backbone, Layer
from featlift.backbones.eva import make_lean
from featlift.backbones.footprint import Footprint, footprint_of
from featlift.backbones.positions import PositionResize, add_positions
from featlift.backbones.rope import LastRopes, has_dinov3_rope, rope_3d
from featlift.backbones.sampling import patches
from featlift.backbones.stem import GreyStem, cuts_patches
from featlift.errors import ModelError


class TransformerBackbone(Backbone):
    """A vision transformer: every block preserves the shape, so every block takes its turn in the cycle."""

    #: How a learned table of positions comes to other sizes, see `featlift.backbones.positions`.
    position_resize: PositionResize = "timm"

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
        self.blocks = list(net.blocks)
        for block in self.blocks:
            make_lean(block)
        self._grey_stem = GreyStem(mean, std)
        self._ropes = LastRopes()
        self.layers = tuple(
            Layer(i, f"blocks.{i}", i + 1, net.embed_dim, patches(patch[0])) for i in range(self.num_blocks)
        )
        named = [name for name in ("cls", "dist") if getattr(net, f"{name}_token", None) is not None]
        self.token_names = (*named, *(f"reg{i}" for i in range(net.num_prefix_tokens - len(named))))
        self.rope_is_mixed = getattr(net, "rope_mixed", False)
        self.eval()
        width, values = net.embed_dim, 3 * patch[0] ** 2
        self.embed_footprint = Footprint(3 + 4 * width / values, width / values)  # given, normalised, cast; sequences
        small = partial(torch.zeros, device=self.device, dtype=self.dtype)
        planes, tokens = small(1, 8, 8, width), small(1, len(self.token_names), width)
        alike = footprint_of(lambda planes: self.run_block(0, planes, tokens, self.rope(0, 8, 8)), planes)
        self.footprints = [alike] * self.num_blocks

    def embed(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """See `Backbone.embed`."""
        return self._place(self.net.patch_embed(slices), slices)

    def embed_intensities(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """See `Backbone.embed_intensities`: grey slices take one convolution, in float32, where nothing is trained."""
        patch_embed = self.net.patch_embed
        if slices.shape[1] != 1 or torch.is_grad_enabled() or not cuts_patches(patch_embed.proj):
            return super().embed_intensities(slices)
        folded = {f"proj.{name}": value for name, value in self._grey_stem.of(patch_embed.proj).items()}
        patches = torch.func.functional_call(patch_embed, folded, slices.float())
        return self._place(patches.to(self.dtype), slices)

    def _place(self, patches: Tensor, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Give patches of slices their positions and global tokens."""
        net = self.net
        resize = self.position_resize
        sequence = net._pos_embed(patches) if resize == "timm" else add_positions(net, patches, resize)
        sequence = net.norm_pre(sequence[0] if isinstance(sequence, tuple) else sequence)
        return self._split(sequence, *(n // self.stride for n in slices.shape[-2:]))

    def run_block(self, index: int, planes: Tensor, tokens: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Backbone.run_block`."""
        block = self.blocks[index]
        count, rows, columns, channels = planes.shape
        # planes are strided views of the volume: this copy, and the one back, are all the moving there is
        sequence = planes.new_empty(count, tokens.shape[1] + rows * columns, channels)
        self._split(sequence, rows, columns)[0].copy_(planes)
        self._split(sequence, rows, columns)[1].copy_(tokens)
        sequence = block(sequence) if rope is None else block(sequence, rope=rope)
        return self._split(sequence, rows, columns)

    def compile_blocks(self, backend: str = "inductor") -> None:
        """See `Backbone.compile_blocks`. One graph serves every block, and a second one single planes."""
        for block in self.blocks:
            block.compile(backend=backend, dynamic=True)

    def rope(self, index: int, rows: int, columns: int) -> Tensor | None:
        """See `Backbone.rope`."""
        rope = getattr(self.net, "rope", None)
        if rope is None:
            return None
        if not has_dinov3_rope(self.net) or torch.is_grad_enabled() or self.net.training:
            embedding: Tensor = rope.get_embed(shape=(rows, columns))
            return embedding[index] if self.rope_is_mixed else embedding
        return self._ropes.of(rope, rows, columns)

    @property
    def rope_is_drawn(self) -> bool:
        """See `Backbone.rope_is_drawn`."""
        return has_dinov3_rope(self.net) and self.net.rope.training and self.net.rope.aug_active

    def rescale_rope(self, most: float) -> None:
        """See `Backbone.rescale_rope`: timm's module draws, log-uniformly, each time it is asked."""
        if not has_dinov3_rope(self.net):
            super().rescale_rope(most)
        self.net.rope.rescale_coords = most
        self.net.rope.aug_active = True

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

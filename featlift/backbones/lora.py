"""LoRA (Hu et al., arXiv 2106.09685): a trained matrix of low rank beside each of some frozen linear layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featlift.backbones.backbone import Backbone
from featlift.errors import ModelError, OptionError

#: Of each block, as timm calls them.
TARGETS = ("attn.qkv", "attn.proj")
_SLICES = ("q", "k", "v")


@dataclass(frozen=True)
class LoraOptions:
    """What is put beside which layers.

    Attributes:
        rank: r of ``A (r, inputs)`` and ``B (outputs, r)``.
        alpha: the product B A counts alpha / r.
        dropout: of what A is given, in training.
        targets: names of linear layers within a block.
        slices: of a fused ``qkv``, which of q, k and v have matrices of their own; empty has one pair for all three.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = TARGETS
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise OptionError(
                f"LoRA of rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: give a rank of at least 1, a "
                "positive alpha and a dropout below 1"
            )
        if not self.targets:
            raise OptionError(f"LoRA beside no layer: name some, as {','.join(TARGETS)}")
        if set(self.slices) - set(_SLICES) or len(set(self.slices)) < len(self.slices):
            raise OptionError(f"LoRA slices {','.join(self.slices)!r}: choose of q, k, v, none twice")


class LoraLinear(nn.Linear):
    """A frozen linear layer with B A beside it.

    In training the product is computed beside the layer; in evaluation mode it is part of `weight`, so that whatever
    reads `weight` itself, as timm's Eva attention and fused kernels do, sees it. Training mode brings back the very
    weight that there was.

    Attributes:
        lora_A: ``(R, inputs)``, drawn as `nn.Linear` draws; R is the rank, or that of all slices together.
        lora_B: ``(outputs, R)``, zero at first.
        scale: of the product.
    """

    def __init__(self, base: nn.Linear, options: LoraOptions, slices: Sequence[str] = ()) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        rank = options.rank * max(1, len(slices))
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, self.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scale = options.alpha / options.rank
        self.dropout = nn.Dropout(options.dropout)
        self.register_buffer("blocks", _blocks(self, options.rank, slices), persistent=False)
        self._plain: Tensor | None = None
        self.training = False
        self.train(base.training)

    blocks: Tensor | None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Values ``(..., inputs)`` to ``(..., outputs)``."""
        found = super().forward(input)
        if self._plain is not None:
            return found
        return found + self.scale * F.linear(F.linear(self.dropout(input), self.lora_A), self._up())

    def train(self, mode: bool = True) -> Self:
        """Training mode computes B A beside the layer, evaluation mode takes it into the weight."""
        super().train(mode)
        if mode and self._plain is not None:
            self.weight.data, self._plain = self._plain, None
        if not mode:
            self._plain = self.weight.data if self._plain is None else self._plain
            with torch.no_grad():
                self.weight.data = self._plain + self.update().to(self._plain.dtype)
        return self

    def update(self) -> Tensor:
        """B A as it counts, ``(outputs, inputs)``, computed in float32 at least."""
        kind = torch.promote_types(self.lora_A.dtype, torch.float32)
        return self.scale * (self._up().to(kind) @ self.lora_A.to(kind))

    def _up(self) -> Tensor:
        return self.lora_B if self.blocks is None else self.lora_B * self.blocks

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        if self._plain is not None:
            self._plain = fn(self._plain)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def add_lora(backbone: Backbone, options: LoraOptions, seed: int = 0) -> dict[str, LoraLinear]:
    """Put LoRA beside layers of every block of a transformer; nothing but it is trained.

    Args:
        backbone: changed in place; its own weights are frozen.
        options: which and how.
        seed: of what is drawn.

    Returns:
        The new layers by timm's name of the old ones.

    Raises:
        ModelError: a convolutional network.
        OptionError: a layer that a block has not, or that is not linear; slices without a fused ``qkv``.
    """
    backbone.requires_grad_(False)
    found: dict[str, LoraLinear] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, parent, last in _places(backbone, options.targets):
            base = getattr(parent, last)
            slices = options.slices if last == "qkv" else ()
            found[name] = LoraLinear(base, options, slices)
            setattr(parent, last, found[name])
            if getattr(parent, "q_bias", None) is not None:
                parent.qkv_bias_separate = True  # or timm would read the weight alone and leave the rest out
    if options.slices and not any(name.endswith("qkv") for name in found):
        raise OptionError(f"LoRA slices {','.join(options.slices)}: no target is a fused qkv")
    backbone.train(backbone.training)
    return found


def _places(backbone: Backbone, targets: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """Name of each layer, the module that has it, and what it is called there."""
    if not backbone.token_names and not hasattr(backbone.net, "patch_embed"):
        raise ModelError(f"{backbone.name} ({backbone.family}): LoRA is for the linear layers of transformers")
    for number, block in enumerate(backbone.blocks):
        for target in targets:
            parent, _, last = target.rpartition(".")
            try:
                module = block.get_submodule(parent)
                linear = isinstance(getattr(module, last), nn.Linear)
            except AttributeError:
                linear = False
            if not linear:
                known = [name for name, each in block.named_modules() if isinstance(each, nn.Linear)]
                raise OptionError(f"LoRA target {target!r}: blocks of {backbone.name} have {', '.join(known)}")
            yield f"blocks.{number}.{target}", module, last


def _blocks(layer: nn.Linear, rank: int, slices: Sequence[str]) -> Tensor | None:
    """Which values of B may differ from zero: rows of each slice have columns of their own. None for all."""
    if not slices:
        return None
    rows = layer.out_features // len(_SLICES)
    mask = torch.zeros(layer.out_features, rank * len(slices))
    for number, name in enumerate(slices):
        first = _SLICES.index(name) * rows
        mask[first : first + rows, rank * number : rank * (number + 1)] = 1
    return mask.to(layer.weight)

"""timm's Eva blocks, DINOv3's among them, in fewer passes over memory where nothing is trained."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featlift.backbones.turning import turn


def make_lean(block: nn.Module) -> bool:
    """Let a block compute what timm's computes with less moving of memory, if it is of the kind that can.

    q and k are turned where the product left them; timm takes each through eight passes: neg, two products, a sum, two
    joins, casts. LayerScale and residual are one pass. With gradients, in training and inside torch.compile the block
    is timm's own; its weights and their names are the same at all times.

    Returns:
        Whether it is.
    """
    if not (type(block).__name__ == "EvaBlock" and _is_plain(block) and _turns_halves(block.attn)):
        return False
    block.forward = partial(_forward, block)
    return True


def _forward(block: Any, x: Tensor, rope: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """Take tokens ``(N, L, C)`` with their rotary embedding ``(L - prefix, 2 * head width)`` through a block."""
    theirs = args or kwargs or rope is None or rope.ndim != 2 or block.training
    if theirs or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return type(block).forward(block, x, rope, *args, **kwargs)  # type: ignore[no-any-return]
    assert rope is not None
    x = _add(x, _attend(block.attn, block.norm1(x), rope), block.gamma_1)
    return _add(x, block.mlp(block.norm2(x)), block.gamma_2)


def _attend(attention: Any, x: Tensor, rope: Tensor) -> Tensor:
    bias = None
    if attention.q_bias is not None:
        bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    qkv = F.linear(x, attention.qkv.weight, bias).unflatten(-1, (3, attention.num_heads, -1))
    turn(qkv, rope, attention.num_prefix_tokens)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    mixed = F.scaled_dot_product_attention(q, k, v)
    return attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


def _add(x: Tensor, update: Tensor, scale: Tensor | None) -> Tensor:
    return x + update if scale is None else torch.addcmul(x, scale, update)


def _is_plain(block: Any) -> bool:
    """Whether nothing but LayerScale stands between a block's sublayers and their sums."""
    return isinstance(block.drop_path1, nn.Identity) and isinstance(block.drop_path2, nn.Identity)


def _turns_halves(attention: Any) -> bool:
    """Whether attention is of fused q, k and v without norms or gates, and turns halves of heads against each other."""
    return (
        type(attention).__name__ == "EvaAttention"
        and type(attention.qkv) is nn.Linear
        and attention.rotate_half
        and attention.head_dim % 2 == 0
        and isinstance(attention.q_norm, nn.Identity)
        and isinstance(attention.k_norm, nn.Identity)
        and getattr(attention, "gate", None) is None
    )

"""Rotary embedding of q and k in place, where the product left them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def turn(qkv: Tensor, rope: Tensor, prefix: int) -> None:
    """Turn q and k by their positions, the two halves of each head against each other, in float32 or wider.

    Args:
        qkv: ``(N, L, 3, heads, width)``, contiguous; q and k are written, v is not touched.
        rope: ``(L - prefix, 2 * width)``, sines then cosines, each the same for both halves of a head.
        prefix: global tokens at the start of every sequence, which have no position.
    """
    half = qkv.shape[-1] // 2
    sines, cosines = rope[:, :half], rope[:, 2 * half : 3 * half]
    turning = _kernel() if qkv.is_cuda and qkv.dtype != torch.float64 else turn_plainly
    turning(qkv, sines, cosines, prefix)


def turn_plainly(qkv: Tensor, sines: Tensor, cosines: Tensor, prefix: int) -> None:
    """`turn` in torch's own operations; sines and cosines are ``(L - prefix, width / 2)``."""
    sines, cosines = sines[:, None, None], cosines[:, None, None]
    patches = qkv[:, prefix:, :2]
    exact = patches.to(torch.promote_types(patches.dtype, torch.float32))  # the same memory, or beside narrower values
    first, second = exact.split(qkv.shape[-1] // 2, dim=-1)
    across = first * sines
    first.mul_(cosines).addcmul_(second, sines, value=-1)
    second.mul_(cosines).add_(across)
    if exact.dtype != patches.dtype:
        patches.copy_(exact)


@cache
def _kernel() -> Callable[[Tensor, Tensor, Tensor, int], None]:
    """The kernel that reads and writes each value once, where it can be compiled and is right; else torch's own."""
    try:
        from featlift.backbones.turning_kernel import turn_in_place

        sample = torch.randn(2, 9, 3, 3, 64, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
        angles = torch.arange(8 * 32, device="cuda", dtype=torch.float32).view(8, 32)
        want = sample.clone()
        turn_plainly(want, angles.sin(), angles.cos(), 1)
        turn_in_place(sample, angles.sin(), angles.cos(), 1)
        torch.testing.assert_close(sample, want, atol=1e-5, rtol=1e-5)
    except Exception as error:  # no Triton, no C compiler in a container, a device that it does not know
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        warnings.warn(f"rotary embedding without its Triton kernel, which is slower: {reason}", stacklevel=2)
        return turn_plainly
    return turn_in_place

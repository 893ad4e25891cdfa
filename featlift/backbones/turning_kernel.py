"""The Triton kernel of `featlift.backbones.turning`. Imported where there is a CUDA device, never before."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit  # type: ignore[untyped-decorator]
def _turn_token(  # type: ignore[no-untyped-def]  # Triton reads types of its own into annotations
    qkv,
    sines,
    cosines,
    row,
    length,
    prefix,
    heads: tl.constexpr,
    half: tl.constexpr,
    heads_2: tl.constexpr,
    half_2: tl.constexpr,
):
    """Turn all heads of q and k of one token; the powers of two above heads and half are heads_2 and half_2."""
    token = tl.program_id(0)
    position = token % length - prefix
    if position >= 0:
        column = tl.arange(0, half_2)[None, :]
        head = tl.arange(0, heads_2)[:, None]
        there = (head < heads) & (column < half)
        sine = tl.load(sines + position * row + column, mask=column < half, other=0.0)
        cosine = tl.load(cosines + position * row + column, mask=column < half, other=0.0)
        start = qkv + token.to(tl.int64) * (6 * heads * half) + head * (2 * half) + column
        for which in tl.static_range(2):  # q, then k
            at = start + which * (2 * heads * half)
            first = tl.load(at, mask=there, other=0.0).to(tl.float32)
            second = tl.load(at + half, mask=there, other=0.0).to(tl.float32)
            tl.store(at, (first * cosine - second * sine).to(qkv.dtype.element_ty), mask=there)
            tl.store(at + half, (second * cosine + first * sine).to(qkv.dtype.element_ty), mask=there)


def turn_in_place(qkv: Tensor, sines: Tensor, cosines: Tensor, prefix: int) -> None:
    """See `featlift.backbones.turning.turn_plainly`; sines and cosines may be columns of one wider table."""
    count, length, _, heads, width = qkv.shape
    assert qkv.is_contiguous()
    assert sines.stride() == cosines.stride()
    assert sines.stride(1) == 1
    half = width // 2
    powers = (triton.next_power_of_2(heads), triton.next_power_of_2(half))
    with torch.cuda.device_of(qkv):  # Triton launches on the current device, whichever the tensors are on
        _turn_token[(count * length,)](
            qkv, sines, cosines, sines.stride(0), length, prefix, heads, half, *powers, num_warps=4
        )

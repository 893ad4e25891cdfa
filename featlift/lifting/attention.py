"""Which attention kernel suits which sequences on CUDA. On other devices torch has one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

#: Below this many tokens the kernel of xFormers is the fastest: at 21 it takes half as long as FlashAttention 2.
_SHORT = 64

#: From this many tokens on cuDNN's kernel wins more in one pass than it costs to plan for a new length. It is a third
#: faster than FlashAttention 2 (412 against 303 TFLOP/s at 9,605 tokens), but plans every new shape for 40 ms, and each
#: CT of another depth brings new ones. docs/performance.md has the figures.
_LONG = 4096

_FLASH = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_SHORT_ORDER = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


def attention_order(capability: tuple[int, int], dtype: torch.dtype, length: int) -> list[SDPBackend] | None:
    """Kernels to try in turn for sequences of this length on a GPU of this capability; None leaves it to torch.

    Nothing but these decides, so that a volume's features are the same whatever was lifted before.
    """
    if dtype == torch.float32 or capability < (9, 0):
        return None
    if length < _SHORT:
        return _SHORT_ORDER
    return _FLASH if length < _LONG else [SDPBackend.CUDNN_ATTENTION, *_FLASH]


def best_attention(device: torch.device, dtype: torch.dtype, length: int) -> AbstractContextManager[None]:
    """Use the best kernels for these sequences inside a ``with`` block."""
    if device.type != "cuda":
        return nullcontext()
    order = attention_order(torch.cuda.get_device_capability(device), dtype, length)
    return nullcontext() if order is None else sdpa_kernel(order, set_priority=True)

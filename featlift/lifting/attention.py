"""Which attention kernel suits which sequences on CUDA. On other devices torch has one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

#: From this length on cuDNN's kernels outrun FlashAttention 2 on Hopper (335 against 282 TFLOP/s at 512, 413 against
#: 324 at 16k, heads of width 64; figures of the FlashAttention-3 paper). Below, planning each new shape costs more.
_CUDNN_LENGTH = 512


def attention_order(capability: tuple[int, int], dtype: torch.dtype, length: int) -> list[SDPBackend] | None:
    """Kernels to try in turn for sequences of this length on a GPU of this capability; None leaves it to torch."""
    if dtype == torch.float32 or capability < (9, 0) or length < _CUDNN_LENGTH:
        return None
    return [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]


def best_attention(device: torch.device, dtype: torch.dtype, length: int) -> AbstractContextManager[None]:
    """Use the best kernels for these sequences inside a ``with`` block."""
    if device.type != "cuda":
        return nullcontext()
    order = attention_order(torch.cuda.get_device_capability(device), dtype, length)
    return nullcontext() if order is None else sdpa_kernel(order, set_priority=True)

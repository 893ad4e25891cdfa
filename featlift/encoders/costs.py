"""What a pass of a 3D network takes of the memory, told without computing it."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from featlift.encoders.stages import Stages

#: Maps that are held at once where most is: what a residual block adds, its input and its output.
_AT_ONCE = 3


def pass_bytes(stages: Stages, shape: tuple[int, ...], last: int, dtype: torch.dtype) -> int | None:
    """Bytes that stages 0 to `last` take for a volume ``(B, C, D, H, W)``, more or less; None where nothing tells.

    The network runs on tensors without values, and its largest map is looked for.
    """
    largest = 0

    def look(module: nn.Module, given: Any, found: Any) -> None:
        nonlocal largest
        if isinstance(found, Tensor):
            largest = max(largest, math.prod(found.shape))

    hollow = _without_values(stages)
    for module in hollow.modules():
        if not any(module.children()):
            module.register_forward_hook(look)
    try:
        with torch.no_grad():
            found = hollow(torch.empty(shape, dtype=dtype, device="meta"), last)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):  # a network that looks at values
        return None
    kept: int = sum(math.prod(each.shape) for each in found)
    return (_AT_ONCE * largest + kept) * dtype.itemsize


def _without_values(stages: Stages) -> Stages:
    """A copy whose weights have shapes alone, and take no memory."""
    hollow: dict[int, Any] = {
        **{id(each): nn.Parameter(each.to("meta"), requires_grad=False) for each in stages.parameters()},
        **{id(each): each.to("meta") for each in stages.buffers()},
    }
    return deepcopy(stages, hollow)

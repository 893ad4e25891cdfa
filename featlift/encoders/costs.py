"""What a pass of a 3D network takes of the memory, told without computing it."""

from __future__ import annotations

import math
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

    hooks = [module.register_forward_hook(look) for module in stages.modules() if not any(module.children())]
    values = {name: value.to("meta") for name, value in stages.state_dict(keep_vars=True).items()}
    try:
        with torch.no_grad():
            volume = torch.empty(shape, dtype=dtype, device="meta")
            found = torch.func.functional_call(stages, values, (volume, last))
    except (NotImplementedError, RuntimeError, TypeError):  # a network that looks at values
        return None
    finally:
        for hook in hooks:
            hook.remove()
    kept: int = sum(math.prod(each.shape) for each in found)
    return (_AT_ONCE * largest + kept) * dtype.itemsize

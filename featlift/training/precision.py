"""In which type products are computed while something is trained."""

from __future__ import annotations

from typing import Literal

import torch

from featlift.errors import OptionError

Precision = Literal["auto", "fp32", "bf16"]


def use_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether to multiply in bfloat16: by ``auto`` where the hardware does so natively.

    Raises:
        OptionError: another precision.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise OptionError(f"precision {precision!r}: choose auto, fp32 or bf16")
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())

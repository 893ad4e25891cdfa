"""Number format in which a backbone computes."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from featlift.backbones.backbone import Backbone
from featlift.errors import ModelError

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision_name(dtype: torch.dtype) -> str:
    """The name that recipes have for a type."""
    return next(name for name, each in DTYPES.items() if each == dtype)


def resolve_precision(choice: str, device: torch.device, family: str) -> Precision:
    """Resolve ``auto``: bfloat16 for transformers where the hardware multiplies it natively, else float32.

    That is CUDA from compute capability 8.0 on, and CPUs with AMX or AVX512-BF16. Convolutional networks stay in
    float32: their batch norms and narrow layers lose too much (EfficientNet-Lite0's features keep a mean cosine of
    0.99 to float32 and single cells fall to 0.93, where a ViT-S keeps 0.9999 everywhere).

    Raises:
        ModelError: an unknown choice.
    """
    if choice not in get_args(PrecisionChoice):
        raise ModelError(f"precision {choice!r}: choose one of {', '.join(get_args(PrecisionChoice))}")
    if choice != "auto":
        return choice  # type: ignore[return-value]
    if family not in ("VisionTransformer", "Eva"):
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return "bf16"
    return "fp32"


def resolve_device(choice: str) -> torch.device:
    """Resolve ``auto`` to the first accelerator there is, else the CPU.

    Raises:
        ModelError: a device that this machine or this torch does not have.
    """
    if choice == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(choice)
        torch.empty(1, device=device)
    except Exception as error:  # torch raises many kinds here
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"device {choice!r} cannot be used: {reason}") from error
    return device


def place(backbone: Backbone, device: torch.device, precision: Precision) -> Backbone:
    """Bring the weights to a device and number format, once. RoPE periods keep float32.

    On CUDA, ``fp32`` means float32 from then on: torch multiplies in TF32, of 10 bits, in convolutions by default.
    """
    return backbone.to(device=device, dtype=DTYPES[place_precision(device, precision)])


def place_precision(device: torch.device, precision: Precision) -> Precision:
    """Let a device multiply in a precision, see `place`; returns it."""
    if device.type == "cuda" and precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return precision

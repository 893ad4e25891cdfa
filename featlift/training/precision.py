"""In which type products are computed while something is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.overrides import TorchFunctionMode

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


@contextmanager
def products_in_bf16(device: torch.device, enabled: bool = True) -> Iterator[None]:
    """Multiply in bfloat16 where torch's autocast does, but for convolutions whose gradients would be wrong."""
    if not enabled or device.type != "cpu":
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            yield
        return
    with torch.autocast("cpu", torch.bfloat16), _ShallowInFloat32():
        yield


class _ShallowInFloat32(TorchFunctionMode):
    """3D convolutions over fewer slices than their kernel has, but more than one, are computed in float32.

    In bfloat16 torch 2.13 gives gradients of their weights on CPUs that are infinite, or off by their whole size.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        shallow = func is torch.conv3d and 1 < args[0].shape[-3] < args[1].shape[-3]
        if shallow:
            whole = [each.float() if isinstance(each, torch.Tensor) else each for each in args]
            with torch.autocast("cpu", enabled=False):
                return func(*whole, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

"""The first convolution of a network that cuts an image into patches, fed with grey intensities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def grey_stem(conv: nn.Conv2d, mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """Fold the repetition of a grey image to three channels and its normalisation into the convolution after them.

    Since every channel sees the same x, ``sum_c w_c * (x - mean_c) / std_c + b`` is one convolution of x. Only without
    padding, whose zeros stand for normalised values.

    Returns:
        weight ``(C, 1, p, p)`` and bias ``(C,)`` in float32, for intensities in [0, 1].
    """
    weight = conv.weight.float()
    shift = torch.tensor(mean, device=weight.device)
    scale = torch.tensor(std, device=weight.device)
    bias = -torch.einsum("ocrs,c->o", weight, shift / scale)
    if conv.bias is not None:
        bias = bias + conv.bias.float()
    return {"weight": torch.einsum("ocrs,c->ors", weight, 1 / scale)[:, None], "bias": bias}


def cuts_patches(conv: nn.Module) -> bool:
    """Whether a module is a convolution of patches that neither overlap nor are padded."""
    return isinstance(conv, nn.Conv2d) and conv.stride == conv.kernel_size and conv.padding == (0, 0)


class GreyStem:
    """`grey_stem` of one convolution, folded again when its weights have changed."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean = tuple(mean)
        self._std = tuple(std)
        self._state: tuple[object, ...] = ()
        self._folded: dict[str, Tensor] = {}

    def of(self, conv: nn.Conv2d) -> dict[str, Tensor]:
        """Weight and bias for grey intensities, see `grey_stem`."""
        weights = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
        state = tuple((each.data_ptr(), 0 if each.is_inference() else each._version) for each in weights)
        if state != self._state:
            self._state, self._folded = state, grey_stem(conv, self._mean, self._std)
        return self._folded

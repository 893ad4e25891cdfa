"""Depth in overlapping windows: the cost of DW and DH planes is quadratic in D, that of windows linear."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from featlift.lifting.features import Features, LayerFeatures


def depth_windows(depth: int, length: int | None, overlap: int) -> list[slice]:
    """Windows of `length` slices, evenly spread over a depth, that overlap by at least `overlap`.

    None, or a length that is not shorter than the depth, gives one window.
    """
    if length is None or length >= depth:
        return [slice(0, depth)]
    steps = -(-(depth - length) // (length - overlap))
    return [slice(start, start + length) for start in (round(i * (depth - length) / steps) for i in range(steps + 1))]


def fades(windows: list[slice], overlap: int) -> list[Tensor]:
    """Weights ``(N,)`` of each window's slices: linear ramps where windows overlap, one in sum everywhere."""
    depth = windows[-1].stop
    ramps = []
    for window in windows:
        slices = torch.arange(window.start, window.stop)
        rising = slices - window.start + 1 if window.start > 0 else torch.full_like(slices, overlap + 1)
        falling = window.stop - slices if window.stop < depth else torch.full_like(slices, overlap + 1)
        ramps.append(torch.minimum(rising, falling).clamp(max=overlap + 1) / (overlap + 1))
    total = torch.zeros(depth)
    for window, ramp in zip(windows, ramps, strict=True):
        total[window] += ramp
    return [ramp / total[window] for window, ramp in zip(windows, ramps, strict=True)]


def blend(parts: Iterable[Features], windows: list[slice], overlap: int) -> Features:
    """Join the features of windows, one window at a time, dense features and global tokens alike.

    The one set of global tokens of mode 3d becomes the mean over the windows, each by its share of the slices.
    """
    depth = windows[-1].stop
    blended: dict[int, LayerFeatures] = {}
    for features, window, weight in zip(parts, windows, fades(windows, overlap), strict=True):
        for index, layer in features.layers.items():
            dense, tokens = layer.dense.movedim(1, -1), layer.tokens
            if index not in blended:
                volumes, _, *shape = dense.shape
                everywhere = 1 if tokens.shape[1] == 1 < weight.numel() else depth
                blended[index] = LayerFeatures(
                    dense.new_zeros(volumes, depth, *shape).movedim(-1, 1),
                    tokens.new_zeros(volumes, everywhere, *tokens.shape[2:]),
                )
            whole = blended[index]
            _add(whole.dense.movedim(1, -1)[:, window], dense, weight)
            if whole.tokens.shape[1] == depth:
                _add(whole.tokens[:, window], tokens, weight)
            else:
                _add(whole.tokens, tokens, weight.sum()[None] / depth)
    return Features(blended)


def _add(total: Tensor, part: Tensor, weight: Tensor) -> None:
    """Add a part ``(B, N, ...)`` by its weight ``(N,)``."""
    total.addcmul_(part, weight.to(part).view(-1, *[1] * (part.ndim - 2)))

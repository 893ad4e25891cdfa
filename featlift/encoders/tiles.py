"""A volume in overlapping tiles whose features are blended with Gaussian weights, as nnU-Net and MONAI blend logits.

Tiles begin at whole cells of the deepest layer, so that the cells of all tiles are those of the volume. They overlap by
half. Weights are products of one for each axis, which are one in sum everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import torch
from torch import Tensor

from featlift.backbones.sampling import FeatureLayer, Triple
from featlift.lifting.windows import depth_windows

#: Standard deviation of the weights, in tiles: nnU-Net's, and MONAI's default.
SIGMA = 1 / 8

Encode = Callable[[Tensor], Mapping[int, Tensor]]


def in_tiles(
    encode: Encode,
    volume: Tensor,
    tile: Triple,
    multiple: Triple,
    layers: tuple[FeatureLayer, ...],
    home: torch.device,
) -> dict[int, Tensor]:
    """The features of a volume, tile by tile.

    Args:
        encode: features ``(B, C, d, h, w)`` of a tile, by the index of their layer.
        volume: ``(B, C, D, H, W)``, sizes multiples of `multiple`.
        tile: voxels along d, h and w, multiples of `multiple`; an axis that is no longer than its tile is taken whole.
        multiple: voxels from which a tile may begin.
        layers: that `encode` gives.
        home: where the features are gathered, in float32 if there are several tiles.
    """
    sizes = volume.shape[2:]
    axes = [_windows(size, length, step) for size, length, step in zip(sizes, tile, multiple, strict=True)]
    if all(len(windows) == 1 for windows in axes):
        return {index: values.to(home) for index, values in encode(volume).items()}
    weights = {
        layer.index: [_weights(windows, stride) for windows, stride in zip(axes, layer.stride, strict=True)]
        for layer in layers
    }
    whole: dict[int, Tensor] = {}
    for numbers in product(*(range(len(windows)) for windows in axes)):
        place = [windows[number] for windows, number in zip(axes, numbers, strict=True)]
        found = encode(volume[:, :, place[0], place[1], place[2]])
        for layer in layers:
            values = found[layer.index]
            if layer.index not in whole:
                cells = [size // stride for size, stride in zip(sizes, layer.stride, strict=True)]
                whole[layer.index] = torch.zeros(*values.shape[:2], *cells, device=home)
            d, h, w = (
                slice(at.start // stride, at.stop // stride) for at, stride in zip(place, layer.stride, strict=True)
            )
            of_d, of_h, of_w = (
                along[number].to(values.device) for along, number in zip(weights[layer.index], numbers, strict=True)
            )
            share = of_d[:, None, None] * of_h[:, None] * of_w
            whole[layer.index][:, :, d, h, w] += (values.float() * share).to(home)
    return whole


def _windows(size: int, length: int, step: int) -> list[slice]:
    """Windows of a length over an axis, beginning at whole steps, that overlap by half at least."""
    steps = depth_windows(size // step, length // step, length // step // 2)
    return [slice(step * each.start, step * each.stop) for each in steps]


def _weights(windows: list[slice], stride: int) -> list[Tensor]:
    """Weights of the cells of each window along an axis, one in sum at every cell."""
    total = torch.zeros(windows[-1].stop // stride)
    found = []
    for window in windows:
        length = window.stop - window.start
        centres = stride * (torch.arange(length // stride) + 0.5)
        found.append(torch.exp(-0.5 * ((centres - length / 2) / (SIGMA * length)) ** 2))
        total[window.start // stride : window.stop // stride] += found[-1]
    return [
        weight / total[window.start // stride : window.stop // stride]
        for weight, window in zip(found, windows, strict=True)
    ]

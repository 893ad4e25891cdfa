"""A volume in overlapping tiles whose features are blended with Gaussian weights, as nnU-Net and MONAI blend logits.

Tiles begin at whole cells of the deepest layer, so that the cells of all tiles are those of the volume. Weights are
products of one for each axis, which are one in sum everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from featlift.backbones.sampling import FeatureLayer, Triple
from featlift.lifting.features import Features, LayerFeatures
from featlift.lifting.windows import depth_windows

#: Standard deviation of the weights, in tiles: nnU-Net's, and MONAI's default.
SIGMA = 1 / 8

Encode = Callable[[Tensor], Features]


def in_tiles(
    encode: Encode,
    volume: Tensor,
    tile: Triple,
    multiple: Triple,
    layers: tuple[FeatureLayer, ...],
    home: torch.device,
    overlap: float = 1 / 2,
) -> Features:
    """The features of a volume, tile by tile. Global tokens are the mean of the tiles', each by its share of the cells.

    Args:
        encode: features of a tile. Where tokens belong to slices, tiles have the whole depth.
        volume: ``(B, C, D, H, W)``, sizes multiples of `multiple`.
        tile: voxels along d, h and w, multiples of `multiple`; an axis that is no longer than its tile is taken whole.
        multiple: voxels from which a tile may begin.
        layers: that `encode` gives.
        home: where the dense features are gathered, in float32 if there are several tiles.
        overlap: share of a tile that its neighbour has too, at least.
    """
    sizes = volume.shape[2:]
    axes = [_windows(size, length, step, overlap) for size, length, step in zip(sizes, tile, multiple, strict=True)]
    if all(len(windows) == 1 for windows in axes):
        found = encode(volume).layers
        return Features({index: LayerFeatures(layer.dense.to(home), layer.tokens) for index, layer in found.items()})
    weights = {
        layer.index: [_weights(windows, stride) for windows, stride in zip(axes, layer.stride, strict=True)]
        for layer in layers
    }
    whole: dict[int, LayerFeatures] = {}
    for numbers in product(*(range(len(windows)) for windows in axes)):
        place = [windows[number] for windows, number in zip(axes, numbers, strict=True)]
        found = encode(volume[:, :, place[0], place[1], place[2]]).layers
        for layer in layers:
            dense, tokens = found[layer.index].dense, found[layer.index].tokens
            cells = [size // stride for size, stride in zip(sizes, layer.stride, strict=True)]
            if layer.index not in whole:
                room = torch.zeros(*dense.shape[:2], *cells, device=home)
                whole[layer.index] = LayerFeatures(room, torch.zeros_like(tokens, dtype=torch.float32))
            d, h, w = (
                slice(at.start // stride, at.stop // stride) for at, stride in zip(place, layer.stride, strict=True)
            )
            of_d, of_h, of_w = (
                along[number].to(dense.device) for along, number in zip(weights[layer.index], numbers, strict=True)
            )
            share = of_d[:, None, None] * of_h[:, None] * of_w
            whole[layer.index].dense[:, :, d, h, w] += (dense.float() * share).to(home)
            whole[layer.index].tokens.add_(tokens.float() * (share.sum() / math.prod(cells)).to(tokens.device))
    return Features(whole)


def _windows(size: int, length: int, step: int, overlap: float) -> list[slice]:
    """Windows of a length over an axis, beginning at whole steps, that share so much of it at least."""
    steps = depth_windows(size // step, length // step, int(length // step * overlap))
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

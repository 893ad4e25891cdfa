"""Where the cells of a trained network look, by the mirror test.

Kernels, strides and paddings say where the middle of a receptive field lies, not where in it a network learned to
look. TF-SAME padding puts its odd pixel at the end, and training, which shows images mirrored too, makes up for it: the
cells of EfficientNet-Lite0 at stride 16 look 6 pixels before the middle of their windows. Paths that join with
different shifts, as in ResNet-D, have no one middle at all.

The test: mirror an image, roll it by n pixels, and compare its features, mirrored back, with those of the image. Cells
that look at pixel ``offset + stride * i`` match best at ``n = 2 * offset - (stride - 1)``, so whole pixels measure
halves. Published networks recognise left and right alike, and so do networks of symmetric kernels. Features that know
no mirror (kernels at random, first layers that tell the two sides of an edge) match nowhere: they have no place by it.

Images are dead leaves: discs of random size that hide each other, with edges and flat parts at all sizes, as natural
images and scans have them. On EfficientNet-Lite0 they give the places that slices of a brain and a chest give, within a
pixel at strides up to 16 and two at 32, for rows and columns alike. Centroids of the effective receptive field agree,
but scatter from cell to cell by more than that. ``python -m benchmarks.centring`` prints all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from featlift.backbones.backbone import Backbone, Layer

#: Similarity of the features (a cosine) by the pixels that the mirrored image was rolled.
Scores = dict[int, float]

BORDER = 64  # pixels around an image, so that no cell that is compared sees a padding from near
_SIZE, _IMAGES = 256, 3
_STEP = 3  # pixels between rolls: odd, so that all phases of a stride take part
_REACH = 2.5  # strides, how far images are rolled at most
_CLEAR = 0.25  # rise of the cosine that says that features know their mirror image; else it stays below 0.2
_TOP = 0.9  # the part of a peak whose middle is taken
_AS_WELL = 0.02  # of the rise of the cosine, by which another place must be better than the middle of the windows


def looking_at(backbone: Backbone) -> list[float | None]:
    """For each layer of a network, the pixel that its first cell looks at, to half a pixel; None where it is not clear.

    Rows and columns have the same kernels, strides and paddings: columns speak for both.
    """
    scores = mirror_scores(backbone, dead_leaves())
    return [place(layer, found) for layer, found in zip(backbone.layers, scores, strict=True)]


def place(layer: Layer, scores: Scores) -> float | None:
    """The pixel that the first cell of a layer looks at, from its scores; None if no roll stands out.

    The middle of the windows is taken if it matches as well as any: a network that is its own mirror image keeps it.
    """
    rolls = np.arange(min(scores), max(scores) + 1)
    curve = np.interp(rolls, list(scores), list(scores.values()))
    rise = curve.max() - curve.min()
    if rise < _CLEAR:
        return None
    if scores.get(_roll_of_windows(layer), -1.0) >= curve.max() - _AS_WELL * rise:
        return (layer.windows or layer.sampling).offset
    weights = np.maximum(curve - curve.min() - _TOP * rise, 0)  # the top is flat and rough: its middle is steadier
    return round(layer.sampling.stride - 1 + float(weights @ rolls / weights.sum())) / 2


@torch.inference_mode()
def mirror_scores(backbone: Backbone, images: Tensor, along: Literal["rows", "columns"] = "columns") -> list[Scores]:
    """How well features of mirrored images, mirrored back, match those of the images, layer by layer.

    Args:
        backbone: a convolutional network in evaluation mode.
        images: intensities in [0, 1], ``(N, 1, H, W)``, H and W multiples of the deepest stride; taken as periodic.
        along: what changes places in the mirror.
    """
    axis = 1 if along == "rows" else 2  # of planes; images have their channels before
    plain = [F.normalize(planes, dim=-1) for planes in _features(backbone, images)]
    scores: list[dict[int, list[float]]] = [{} for _ in plain]
    own = {_roll_of_windows(layer) % backbone.stride for layer in backbone.layers}
    for roll in sorted({*range(0, backbone.stride, _STEP), *own}):
        mirrored = images.flip(axis + 1).roll(roll, axis + 1)
        for layer, ours, theirs, found in zip(
            backbone.layers, plain, _features(backbone, mirrored), scores, strict=True
        ):
            stride = layer.sampling.stride
            back = F.normalize(theirs, dim=-1).flip(axis)
            reach = int(_REACH * stride)
            # rolling by a whole stride moves features by a cell
            for cells in range(-((reach + roll) // stride), (reach - roll) // stride + 1):
                cosine = float((ours * back.roll(-cells, axis)).sum(-1).mean())
                found.setdefault(roll + stride * cells, []).append(cosine)
    return [{roll: float(np.mean(found[roll])) for roll in sorted(found)} for found in scores]


def _roll_of_windows(layer: Layer) -> int:
    """The roll at which features match if cells look at the middle of their windows."""
    windows = layer.windows or layer.sampling
    return round(2 * windows.offset) - (windows.stride - 1)


def _features(backbone: Backbone, images: Tensor) -> Iterator[Tensor]:
    """Planes ``(N, R, S, C)`` of every layer, without what all images have in common: the paddings, seen from afar."""
    grey = F.pad(images, (BORDER,) * 4, mode="circular")
    planes, tokens = backbone.embed_intensities(grey)
    done = 0
    for layer in backbone.layers:
        for block in range(done, layer.after):
            planes, tokens = backbone.run_block(block, planes, tokens, None)
        done = layer.after
        cells = BORDER // layer.sampling.stride
        inner = planes[:, cells:-cells, cells:-cells]
        yield inner - inner.mean(0)


@cache
def dead_leaves(images: int = _IMAGES, size: int = _SIZE, seed: int = 0) -> Tensor:
    """Grey images of discs on discs, ``(N, 1, size, size)`` in [0, 1], periodic, the same on every machine.

    Radii r are drawn with a density of r to the power of -3: the same share of the image for every size.
    """
    draw = np.random.RandomState(seed)  # a stream that is frozen (NEP 19)
    least, most = 3, size * 5 // 16
    at = np.arange(size)
    made = np.full((images, size, size), 0.5, np.float32)
    for image in made:
        share, y, x, grey = draw.random_sample((1000, 4)).T
        radii = 1 / np.sqrt(1 / least**2 - (1 / least**2 - 1 / most**2) * share)
        for radius, row, column, value in zip(radii, y * size, x * size, grey, strict=True):
            rows, columns = _away(at, row), _away(at, column)
            image[rows[:, None] ** 2 + columns**2 < radius**2] = value
    return torch.from_numpy(made)[:, None]


def _away(at: NDArray[np.intp], from_: float) -> NDArray[Any]:
    """Distances on a circle of as many pixels as there are places."""
    return (at - from_ + len(at) / 2) % len(at) - len(at) / 2

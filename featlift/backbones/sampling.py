"""Where a feature cell sits in the image: stride and offset, composed layer by layer.

Cell ``i`` of an output looks at image position ``offset + stride * i`` (in pixels, pixel centres at whole numbers):
the centre of its receptive field, the common centre-of-field arithmetic of strided convolutions. TF-SAME padding puts
the odd pixel at the end, so its cells are *not* centred on their stride block; only composing the paddings shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featlift.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Sampling:
    """Image position of the cells along one axis: cell ``i`` is centred at ``offset + stride * i`` pixels."""

    stride: int = 1
    offset: float = 0.0

    def then(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Sampling:
        """Sampling after one more window (convolution or pooling) with `padding` pixels before the first."""
        shift = (kernel - 1) * dilation / 2 - padding
        return Sampling(self.stride * stride, self.offset + shift * self.stride)


@dataclass(frozen=True)
class FeatureLayer:
    """A layer of an encoder, and where its cells are: cell ``i`` of an axis at voxel ``offset + stride * i``.

    Attributes:
        index: absolute, as in `Features.layers` and in a store.
        name: of the module whose output it is.
        channels: C.
        stride: voxels from one cell to the next along d, h and w.
        offset: (d, h, w) in voxels of the centre of the first cell.
        parts: what the channels consist of, one after the other in equal shares; empty for a whole.
    """

    index: int
    name: str
    channels: int
    stride: Triple
    offset: tuple[float, float, float]
    parts: tuple[str, ...] = ()


def patches(size: int) -> Sampling:
    """Sampling of non-overlapping patches of `size` pixels, as in a ViT's patch embedding."""
    return Sampling().then(size, size, 0)


def compose(sampling: Sampling, modules: Iterable[nn.Module]) -> Sampling:
    """Follow the windows of `modules`, in order, from `sampling`.

    Raises:
        ModelError: a module changes the grid and is none of the windows known here.
    """
    for module in modules:
        window = _window(module)
        if window is not None:
            sampling = sampling.then(*window)
    return sampling


def _window(module: nn.Module) -> tuple[int, int, int, int] | None:
    """(kernel, stride, padding before, dilation) of a convolution or pooling; None for any other module."""
    kernel = getattr(module, "filt_size", None) or getattr(module, "kernel_size", None)
    if kernel is None:
        return None
    kernel = _both(module, kernel)
    stride = _both(module, module.stride)
    dilation = _both(module, getattr(module, "dilation", 1))
    if type(module).__name__.endswith("Same") or getattr(module, "dynamic_padding", False):
        # TF-SAME: the total padding keeps ceil(n / stride) cells, the smaller half goes first. The images lifted
        # here are padded to the grid beforehand, so n is a multiple of the stride.
        return kernel, stride, max((kernel - 1) * dilation + 1 - stride, 0) // 2, dilation
    padding = getattr(module, "padding", 0)
    if isinstance(padding, str):
        raise ModelError(f"{type(module).__name__} with padding={padding!r}: the position of its cells is unknown")
    return kernel, stride, _both(module, padding), dilation


def _both(module: nn.Module, value: Any) -> int:
    """The one number that `value` gives for rows and columns alike."""
    values = set(value) if isinstance(value, (tuple, list)) else {value}
    if len(values) != 1:
        raise ModelError(f"{type(module).__name__} with {value}: rows and columns are sampled differently")
    return int(values.pop())

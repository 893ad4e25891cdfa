"""Eight bits a value: whole numbers, and a scale and an offset for each channel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

_LOWEST, _HIGHEST = -128, 127


@dataclass(frozen=True, eq=False)
class Quantised:
    """Values as ``scale * values + offset``, off by half a `scale` at most.

    Attributes:
        values: int8.
        scale: ``(C,)`` float32: a 255th of the range of each channel; 0 for one that is constant.
        offset: ``(C,)`` float32.
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]


def quantise(values: NDArray[Any], axis: int) -> Quantised:
    """Round finite values to 256 steps between the lowest and the highest of their channel.

    Args:
        values: of a volume, ``(C, d, h, w)`` or ``(d, g, C)``.
        axis: of the channels.
    """
    values = np.moveaxis(values, axis, -1)
    others = tuple(range(values.ndim - 1))
    low, high = (each(axis=others).astype(np.float64) for each in (values.min, values.max))
    scale = ((high - low) / (_HIGHEST - _LOWEST)).astype(np.float32)
    offset = (low - _LOWEST * scale.astype(np.float64)).astype(np.float32)
    step = np.where(scale > 0, scale, np.float32(1))
    whole = np.empty(values.shape, np.int8)
    for part, into in zip(values, whole, strict=True):  # slice by slice: a copy in floats takes four times the room
        into[...] = np.clip(np.rint((part - offset) / step), _LOWEST, _HIGHEST)
    return Quantised(np.moveaxis(whole, -1, axis), scale, offset)


class Dequantised:
    """An array of floats that lies on disk as `Quantised`. Nothing is read before it is indexed, as an array of Zarr's.

    Args:
        values: the int8 array.
        scale: ``(C,)``.
        offset: ``(C,)``.
        axis: of the channels in `values`.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, values: zarr.Array[Any], scale: zarr.Array[Any], offset: zarr.Array[Any], axis: int) -> None:
        self.values = values
        self.shape: tuple[int, ...] = values.shape
        self.ndim = values.ndim
        self._beside = scale, offset
        self._axis = axis

    def __getitem__(self, part: Any) -> NDArray[np.float32]:
        """Values as float32; index it by numbers, slices and ``...``."""
        floats = np.asarray(self.values[part]).astype(np.float32)
        scale, offset = (each[part] for each in self._of_channels)
        floats *= scale
        floats += offset
        return floats

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"<int8 array {self.shape}, read as float32>"

    @cached_property
    def _of_channels(self) -> list[NDArray[np.float32]]:
        """Scale and offset in the shape of the whole array, each number in memory once: indexed just as it is."""
        shape = [1] * self.ndim
        shape[self._axis] = -1
        return [np.broadcast_to(np.asarray(each[:]).reshape(shape), self.shape) for each in self._beside]

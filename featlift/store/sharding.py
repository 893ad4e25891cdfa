"""Shards as Zarr's codec ``sharding_indexed`` lays them out: chunks one after the other, then where each of them is.

zarr-python encodes the chunks of all arrays of a process in one thread and copies each of them five times, which held a
GPU back. Here whoever writes encodes in a thread of its own, with one copy. zarr-python reads these shards as its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

CHECKSUM = 4  # bytes of a crc32c
INDEX_ENTRY = 16  # bytes by which a shard knows one of its chunks: where it starts, and how long it is
_ABSENT = 2**64 - 1  # in both, for a chunk that lies beyond the array


def shards_of(
    values: NDArray[Any], shard: Sequence[int], chunk: Sequence[int], order: Sequence[int]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The shards of an array one after the other, as keys such as ``c/0/0/1`` and bytes.

    Args:
        values: the array.
        shard: its size along each axis, whole chunks.
        chunk: size along each axis; chunks at the end are filled up with zeros.
        order: axes of `values` in the order in which a chunk's values lie on disk.
    """
    for number in itertools.product(*_grid(values.shape, shard)):
        there = tuple(slice(n * size, (n + 1) * size) for n, size in zip(number, shard, strict=True))
        key = "/".join(("c", *map(str, number)))
        yield key, _encode(values[there], [s // c for s, c in zip(shard, chunk, strict=True)], chunk, order)


def encode_chunk(values: NDArray[Any]) -> NDArray[np.uint8]:
    """The only chunk of an array without shards."""
    encoded = np.empty(values.nbytes + CHECKSUM, np.uint8)
    encoded[:-CHECKSUM] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    _sign(encoded)
    return encoded


def _encode(
    values: NDArray[Any], counts: Sequence[int], chunk: Sequence[int], order: Sequence[int]
) -> NDArray[np.uint8]:
    """A shard of `counts` chunks along each axis, of which those that `values` reaches are written."""
    inside = [len(axis) for axis in _grid(values.shape, chunk)]
    nbytes = math.prod(chunk) * values.itemsize + CHECKSUM
    end = math.prod(inside) * nbytes
    encoded = np.empty(end + math.prod(counts) * INDEX_ENTRY + CHECKSUM, np.uint8)
    index = np.full((*counts, 2), _ABSENT, "<u8")
    for place, number in enumerate(itertools.product(*map(range, inside))):
        index[number] = place * nbytes, nbytes
        content = encoded[place * nbytes : (place + 1) * nbytes - CHECKSUM]
        there = tuple(slice(n * size, (n + 1) * size) for n, size in zip(number, chunk, strict=True))
        part = values[there].transpose(order)
        whole = content.view(values.dtype).reshape([chunk[axis] for axis in order])
        if part.shape != whole.shape:
            whole[...] = 0
        whole[tuple(map(slice, part.shape))] = part
        _sign(encoded[place * nbytes : (place + 1) * nbytes])
    encoded[end:-CHECKSUM] = index.reshape(-1).view(np.uint8)
    _sign(encoded[end:])
    return encoded


def _grid(shape: Sequence[int], size: Sequence[int]) -> list[range]:
    """Numbers of the pieces along each axis."""
    return [range(math.ceil(n / s)) for n, s in zip(shape, size, strict=True)]


def _sign(content: NDArray[np.uint8]) -> None:
    """Put the checksum of all bytes but the last four there."""
    checksum = google_crc32c.value(content[:-CHECKSUM])
    content[-CHECKSUM:] = np.frombuffer(checksum.to_bytes(CHECKSUM, "little"), np.uint8)

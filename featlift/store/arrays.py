"""How each array of a volume lies on disk: chunks, shards, checksums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, TransposeCodec

from featlift.errors import VolumeError

LARGEST_SHARD = 256 * 2**20  # bytes
_DENSE_CHUNK = 8  # cells along d, h and w
_SCAN_CHUNK = (16, 256, 256)
_CHECKSUM = 4  # bytes of a crc32c
_INDEX_ENTRY = 16  # bytes by which a shard knows one of its chunks


def write_dense(store: Store, name: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Write dense features ``(C, d, h, w)``: chunks of 8 x 8 x 8 whole feature vectors, C contiguous on disk."""
    chunk = _dense_chunk(values.shape)
    _write(
        store,
        name,
        values,
        chunks=chunk,
        shards=_shard(values.shape, values.dtype.itemsize, chunk),
        names=("feature", "z", "y", "x"),
        attributes=attributes,
        filters=[TransposeCodec(order=(1, 2, 3, 0))],
    )


def write_scan(store: Store, name: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Write the scan ``(D, H, W)``, or ``(3, D, H, W)`` for three windows, in chunks of a megabyte or two."""
    chunk = _scan_chunk(values.shape)
    _write(
        store,
        name,
        values,
        chunks=chunk,
        shards=_shard(values.shape, values.dtype.itemsize, chunk),
        names=(*("channel" for _ in values.shape[:-3]), "z", "y", "x"),
        attributes=attributes,
    )


def _dense_chunk(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *(min(n, _DENSE_CHUNK) for n in shape[1:]))


def _scan_chunk(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-3], *(min(n, c) for n, c in zip(shape[-3:], _SCAN_CHUNK, strict=True)))


def _shard(shape: tuple[int, ...], itemsize: int, chunk: tuple[int, ...]) -> tuple[int, ...]:
    """As many whole slabs of chunks along depth as fit the largest shard, at least one."""
    *lead, _, rows, columns = (math.ceil(n / c) * c for n, c in zip(shape, chunk, strict=True))
    slab = math.prod(lead) * chunk[-3] * rows * columns * itemsize
    slabs = min(max(1, LARGEST_SHARD // slab), math.ceil(shape[-3] / chunk[-3]))
    return (*lead, slabs * chunk[-3], rows, columns)


def dense_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes that `write_dense` takes for ``(C, d, h, w)``, metadata aside."""
    return _sharded_bytes(shape, itemsize, _dense_chunk(shape))


def scan_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes that `write_scan` takes for ``(D, H, W)`` or ``(3, D, H, W)``, metadata aside."""
    return _sharded_bytes(shape, itemsize, _scan_chunk(shape))


def small_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes that `write_small` takes, metadata aside."""
    return math.prod(shape) * itemsize + _CHECKSUM


def _sharded_bytes(shape: tuple[int, ...], itemsize: int, chunk: tuple[int, ...]) -> int:
    """Chunks are whole, also those that reach beyond the array; a shard ends with where each of them is."""
    shard = _shard(shape, itemsize, chunk)
    shards = math.prod(math.ceil(n / s) for n, s in zip(shape, shard, strict=True))
    chunks = math.prod(s // c for s, c in zip(shard, chunk, strict=True))
    return shards * (chunks * (math.prod(chunk) * itemsize + _CHECKSUM + _INDEX_ENTRY) + _CHECKSUM)


def write_small(
    store: Store, name: str, values: NDArray[Any], names: tuple[str, ...], attributes: dict[str, Any]
) -> None:
    """Write an array that fits one chunk: tokens, slice means, the embedding."""
    _write(store, name, values, chunks=values.shape, shards=None, names=names, attributes=attributes)


def as_float16(values: NDArray[Any], what: str, remedy: str) -> NDArray[np.float16]:
    """Round to float16.

    Raises:
        VolumeError: a value is not finite or beyond float16's range (65504).
    """
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16, copy=False)
    if not np.isfinite(rounded).all():
        raise VolumeError(f"{what} hold values that float16 cannot (NaN, or beyond 65504): {remedy}")
    return rounded


def as_floats(values: NDArray[Any], dtype: str, what: str, remedy: str) -> NDArray[Any]:
    """Round to ``float16`` or ``float32``; what is to be quantised stays as it is.

    Raises:
        VolumeError: a value is not finite, or does not fit.
    """
    if dtype == "float16":
        return as_float16(values, what, remedy)
    if not np.isfinite(values).all():
        raise VolumeError(f"{what} hold NaN or infinite values: {remedy}")
    return values.astype(np.float32, copy=False)


def _write(
    store: Store,
    name: str,
    values: NDArray[Any],
    *,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    names: tuple[str, ...],
    attributes: dict[str, Any],
    filters: list[TransposeCodec] | None = None,
) -> None:
    array = zarr.create_array(
        store,
        name=name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        filters=filters,
        compressors=[Crc32cCodec()],  # features do not compress; a flipped byte must not read silently
        fill_value=0,
        dimension_names=names,
        attributes=attributes,
        config={"write_empty_chunks": True},  # else a chunk of zeros and a lost one read alike
    )
    array[...] = values

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


def write_dense(store: Store, name: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Write dense features ``(C, d, h, w)``: chunks of 8 x 8 x 8 whole feature vectors, C contiguous on disk."""
    chunk = (values.shape[0], *(min(n, _DENSE_CHUNK) for n in values.shape[1:]))
    _write(
        store,
        name,
        values,
        chunks=chunk,
        shards=_shard(values, chunk),
        names=("feature", "z", "y", "x"),
        attributes=attributes,
        filters=[TransposeCodec(order=(1, 2, 3, 0))],
    )


def write_scan(store: Store, name: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Write the scan ``(D, H, W)``, or ``(3, D, H, W)`` for three windows, in chunks of a megabyte or two."""
    lead = values.shape[:-3]
    chunk = (*lead, *(min(n, c) for n, c in zip(values.shape[-3:], _SCAN_CHUNK, strict=True)))
    _write(
        store,
        name,
        values,
        chunks=chunk,
        shards=_shard(values, chunk),
        names=(*("channel" for _ in lead), "z", "y", "x"),
        attributes=attributes,
    )


def _shard(values: NDArray[Any], chunk: tuple[int, ...]) -> tuple[int, ...]:
    """As many whole slabs of chunks along depth as fit the largest shard, at least one."""
    *lead, _, rows, columns = (math.ceil(n / c) * c for n, c in zip(values.shape, chunk, strict=True))
    slab = math.prod(lead) * chunk[-3] * rows * columns * values.dtype.itemsize
    slabs = min(max(1, LARGEST_SHARD // slab), math.ceil(values.shape[-3] / chunk[-3]))
    return (*lead, slabs * chunk[-3], rows, columns)


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

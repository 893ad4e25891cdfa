"""How each array of a volume lies on disk: chunks, shards, checksums."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, TransposeCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from featlift.errors import VolumeError
from featlift.store.layout import METADATA
from featlift.store.sharding import CHECKSUM, INDEX_ENTRY, encode_chunk, shards_of

#: Takes a file of a volume: its Zarr key and its bytes.
Put = Callable[[str, bytes | NDArray[np.uint8]], None]

LARGEST_SHARD = 256 * 2**20  # bytes
_DENSE_CHUNK = 8  # cells along d, h and w
_SCAN_CHUNK = (16, 256, 256)


def put_into(folder: Path) -> Put:
    """Writes the files of a volume below a folder."""

    def put(key: str, content: bytes | NDArray[np.uint8]) -> None:
        place = folder / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.data)

    return put


def write_dense(put: Put, name: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Write dense features ``(C, d, h, w)``: chunks of 8 x 8 x 8 whole feature vectors, C contiguous on disk."""
    chunk = _dense_chunk(values.shape)
    _write(
        put,
        name,
        values,
        chunks=chunk,
        shards=_shard(values.shape, values.dtype.itemsize, chunk),
        names=("feature", "z", "y", "x"),
        attributes=attributes,
        order=(1, 2, 3, 0),
    )


def write_scan(put: Put, name: str, values: NDArray[Any], attributes: dict[str, Any]) -> None:
    """Write the scan ``(D, H, W)``, or ``(3, D, H, W)`` for three windows, in chunks of a megabyte or two."""
    chunk = _scan_chunk(values.shape)
    _write(
        put,
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
    return math.prod(shape) * itemsize + CHECKSUM


def _sharded_bytes(shape: tuple[int, ...], itemsize: int, chunk: tuple[int, ...]) -> int:
    """Chunks are whole, also those that reach beyond the array; a shard ends with where each of its own is."""
    shard = _shard(shape, itemsize, chunk)
    chunks = math.prod(math.ceil(n / c) for n, c in zip(shape, chunk, strict=True))
    shards = math.prod(math.ceil(n / s) for n, s in zip(shape, shard, strict=True))
    entries = math.prod(s // c for s, c in zip(shard, chunk, strict=True))
    return chunks * (math.prod(chunk) * itemsize + CHECKSUM) + shards * (entries * INDEX_ENTRY + CHECKSUM)


def write_small(put: Put, name: str, values: NDArray[Any], names: tuple[str, ...], attributes: dict[str, Any]) -> None:
    """Write an array that fits one chunk: tokens, slice means, the embedding."""
    _write(put, name, values, chunks=values.shape, shards=None, names=names, attributes=attributes)


def as_float16(values: NDArray[Any], what: str, remedy: str) -> NDArray[np.float16]:
    """Round to float16.

    Raises:
        VolumeError: a value is not finite or beyond float16's range (65504).
    """
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16, copy=False)
    if not _is_finite(rounded):
        raise VolumeError(f"{what} hold values that float16 cannot (NaN, or beyond 65504): {remedy}")
    return rounded


def _is_finite(values: NDArray[np.float16]) -> bool:
    """By the bits, in a twentieth of the time of `np.isfinite`: a CT has a quarter of a billion of these."""
    if values.size == 0:
        return True
    largest, least = np.array([65504, -65504], np.float16).view(np.int16)
    return bool(values.view(np.int16).max() <= largest and values.view(np.uint16).max() <= least.view(np.uint16))


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
    put: Put,
    name: str,
    values: NDArray[Any],
    *,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    names: tuple[str, ...],
    attributes: dict[str, Any],
    order: tuple[int, ...] | None = None,
) -> None:
    metadata = json.loads(_metadata(values.shape, values.dtype.str, chunks, shards, names, order))
    metadata["attributes"] = attributes
    put(f"{name}/{METADATA}", as_json(metadata))
    if shards is None:
        put(f"{name}/{'/'.join(('c', *('0' for _ in chunks)))}", encode_chunk(values))
        return
    for key, content in shards_of(values, shards, chunks, order or range(values.ndim)):
        put(f"{name}/{key}", content)


def as_json(metadata: dict[str, Any]) -> bytes:
    """Metadata as zarr writes it."""
    return json.dumps(metadata, indent=2).encode()


@lru_cache(maxsize=128)
def _metadata(
    shape: tuple[int, ...],
    dtype: str,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    names: tuple[str, ...],
    order: tuple[int, ...] | None,
) -> bytes:
    """What zarr writes of an array without attributes. It takes 4 ms, and the volumes of a cohort are much alike."""
    contents: dict[str, Buffer] = {}
    zarr.create_array(
        MemoryStore(contents),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        filters=[TransposeCodec(order=order)] if order else None,
        compressors=[Crc32cCodec()],  # features do not compress; a flipped byte must not read silently
        fill_value=0,
        dimension_names=names,
    )
    return contents[METADATA].to_bytes()

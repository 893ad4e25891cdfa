"""HDF5 datasets: arrays without a geometry, but for those laid out as CREMI's are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.formats.arrays import array_shape, chosen, cremi_affine, index_of_frame
from featlift.volumes.formats.voxels import numbers, one_line, parsing
from featlift.volumes.image import Image


def open_hdf5(path: Path, key: str | None = None) -> Image:
    """Open one dataset of an HDF5 file, ``key`` its path inside."""
    with _file(path) as file:
        name = chosen(key, _shapes(file))
        dataset = file[name]
        if dataset.is_virtual or dataset.external:
            raise VolumeError(f"the voxels of {name} are in other files: copy them into this one")
        frames, shape = array_shape(dataset.shape)
        numbers(dataset.dtype)
        _check_chunks(dataset, _filters(dataset))
        with parsing("HDF5"):
            affine = cremi_affine(name, dataset.attrs)

    def load(frame: int) -> NDArray[Any]:
        with _file(path) as file:
            dataset = file[name]
            return np.asarray(dataset[index_of_frame(frame, dataset.shape)])

    return Image(shape, load, affine, frames)


def _shapes(file: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of all datasets; links to other files are not followed."""
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            shapes[name] = tuple(node.shape)

    file.visititems(note)
    return shapes


def _filters(dataset: Any) -> list[int]:
    """What the chunks went through, in order."""
    from h5py import h5z

    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number) for number in range(properties.get_nfilters())]
    for code, _, _, name in filters:
        if not h5z.filter_avail(code):
            raise VolumeError(f"compressed with {name.decode() or f'filter {code}'}, unknown here: save it with gzip")
    return [code for code, *_ in filters]


def _check_chunks(dataset: Any, filters: list[int]) -> None:
    """Refuse chunks of a wrong size or place.

    HDF5 fills short ones up with memory as it finds it, or reads beyond their end, and finds no misplaced ones.
    """
    from h5py.h5z import FILTER_FLETCHER32, FILTER_SHUFFLE

    if dataset.chunks is None:
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    chunks: list[Any] = []
    dataset.id.chunk_iter(chunks.append)
    for chunk in chunks:
        if any(
            at >= n or at % step for at, n, step in zip(chunk.chunk_offset, dataset.shape, dataset.chunks, strict=True)
        ):
            raise VolumeError("damaged: a chunk lies outside of its grid; copy it again")
        applied = [code for number, code in enumerate(filters) if not chunk.filter_mask >> number & 1]
        checksum = 4 * applied.count(FILTER_FLETCHER32)
        is_packed = not {FILTER_FLETCHER32, FILTER_SHUFFLE}.issuperset(applied)
        if chunk.size < checksum or (not is_packed and chunk.size != size + checksum):
            raise VolumeError(f"damaged: a chunk of {chunk.size:,} bytes where {size:,} belong; copy it again")


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (VolumeError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # HDF5 raises many kinds on damaged files
        raise VolumeError(f"not a readable HDF5 file ({one_line(error)}): copy it again") from error

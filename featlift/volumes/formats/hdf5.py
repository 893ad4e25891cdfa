"""HDF5 datasets: arrays without a geometry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.formats.arrays import array_shape, chosen, index_of_frame
from featlift.volumes.formats.voxels import numbers, one_line
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
        _check_filters(dataset)

    def load(frame: int) -> NDArray[np.float32]:
        with _file(path) as file:
            dataset = file[name]
            return np.asarray(dataset[index_of_frame(frame, dataset.shape)]).astype(np.float32)

    return Image(shape, load, frames=frames)


def _shapes(file: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of all datasets; links to other files are not followed."""
    import h5py

    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            shapes[name] = tuple(node.shape)

    file.visititems(note)
    return shapes


def _check_filters(dataset: Any) -> None:
    from h5py import h5z

    properties = dataset.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        if not h5z.filter_avail(code):
            raise VolumeError(f"compressed with {name.decode() or f'filter {code}'}, unknown here: save it with gzip")


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

"""NumPy's .npy and .npz: arrays without a geometry, never pickles."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.formats.arrays import array_shape, chosen, index_of_frame
from featlift.volumes.formats.voxels import first_bytes, numbers, one_line, parsing
from featlift.volumes.image import Image, once


def open_npy(path: Path, key: str | None = None) -> Image:
    """Open a .npy file."""
    with path.open("rb") as file:
        shape, fortran_order, dtype = _header(file)
        start, size = file.tell(), os.fstat(file.fileno()).st_size
    frames, volume = array_shape(shape)
    if size < start + (promised := math.prod(shape) * numbers(dtype).itemsize):
        raise VolumeError(f"truncated: it does not hold the {promised:,} bytes that its header promises; copy it again")

    def load(frame: int) -> NDArray[Any]:
        stored = np.memmap(path, dtype, "r", start, shape, "F" if fortran_order else "C")
        return np.asarray(stored[index_of_frame(frame, shape)])

    return Image(volume, load, frames=frames)


def open_npz(path: Path, key: str | None = None) -> Image:
    """Open one array of a .npz file."""
    shapes = npz_shapes(path)
    name = chosen(key, shapes)
    frames, volume = array_shape(shapes[name])

    every_frame = once(lambda: read_array(path, name).reshape(frames, *volume), frames)
    return Image(volume, lambda frame: every_frame()[frame], frames=frames)


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a .npz file, by name; only their headers are read."""
    with _archive(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        return {name.removesuffix(".npy"): _header_of(archive, name)[0] for name in names}


def read_array(path: Path, name: str) -> NDArray[Any]:
    """Read a whole array of a .npz file.

    Raises:
        VolumeError: it is damaged, or not of numbers.
    """
    with _archive(path) as archive, _open(archive, f"{name}.npy") as file:
        shape, fortran_order, dtype = _header(file)
        size = math.prod(shape) * numbers(dtype).itemsize
        content = file.read(size + 1)  # grows with what is there, whatever the header promises
        if len(content) != size:
            raise VolumeError(f"damaged: {name} does not hold the {size:,} bytes that its header promises")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")


@contextmanager
def _archive(path: Path) -> Iterator[ZipFile]:
    try:
        with ZipFile(path) as archive:
            yield archive
    except (VolumeError, OSError, MemoryError):
        raise
    except Exception as error:  # zipfile and its codecs raise many kinds on damaged bytes
        raise VolumeError(f"not a readable .npz ({one_line(error)}): copy it again") from error


def _header_of(archive: ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    with _open(archive, name) as file:
        return _header(file)


def _open(archive: ZipFile, name: str) -> IO[bytes]:
    if archive.getinfo(name).compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # zipfile bounds no others as it reads
        raise VolumeError("compressed as NumPy never does: save it again with numpy.savez_compressed")
    return archive.open(name)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    start = file.read(8)
    if start not in (npy.magic(1, 0), npy.magic(2, 0), npy.magic(3, 0)):
        raise VolumeError(f"not a NumPy array ({first_bytes(start)})")
    with parsing("NumPy"):
        read_header = npy.read_array_header_1_0 if start[6] == 1 else npy.read_array_header_2_0
        return read_header(file)

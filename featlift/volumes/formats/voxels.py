"""From what a header says to an array: a shape that can be taken, and the voxels that fill it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.names import stays_below, without_folders
from featlift.volumes.formats.decoding import INFLATES_AT_MOST, Codec, Stream, decoded
from featlift.volumes.grid import Shape
from featlift.volumes.image import Image, once
from featlift.volumes.volume import Affine

#: Of the units that text headers name; all others count as millimetres.
MILLIMETRES = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001}

_STEP = 1 << 20
_LONGEST_HEADER = 1 << 20


def frames_and_shape(shape: tuple[int, ...]) -> tuple[int, Shape]:
    """How many volumes a shape (slowest axis first) stands for, and the shape of each.

    Raises:
        VolumeError: it is that of an image, of nothing, or of more than four dimensions.
    """
    text = " x ".join(map(str, shape))
    if any(n < 1 for n in shape):
        raise VolumeError(f"an axis without voxels ({text}): correct its header")
    shape = (*(n for n in shape[:-3] if n > 1), *shape[-3:])  # vectors have three values, and one point in time
    if len(shape) < 3 or 1 in shape[-3:]:
        raise VolumeError(f"a single image ({text}), not a volume: stack its slices into one file")
    if len(shape) > 4:
        raise VolumeError(f"{len(shape)} dimensions ({text}): split it into 3D volumes")
    *frames, depth, height, width = shape
    return math.prod(frames), (depth, height, width)


def numbers(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of voxels, which must be plain numbers.

    Raises:
        VolumeError: colours, complex or other values.
    """
    if dtype.names is not None:
        raise VolumeError(f"colour voxels ({'/'.join(dtype.names)}): convert it to one value a voxel")
    if dtype.kind == "c":
        raise VolumeError("complex voxels: give magnitude or phase")
    if dtype.kind not in "biuf":
        raise VolumeError(f"its values are not numbers but {'Python objects' if dtype.kind == 'O' else dtype}")
    return dtype


def read_voxels(
    file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any], codec: Codec = "raw", skip: int = 0
) -> NDArray[Any]:
    """Read the voxels from where the file stands, the first `skip` decoded bytes left out.

    A compressed stream is read to its end, where the checksum is.

    Raises:
        VolumeError: there are too few, or the stream is damaged.
    """
    size = math.prod(shape) * dtype.itemsize
    left = os.fstat(file.fileno()).st_size - file.tell()
    content = b""
    if skip + size <= left * (1 if codec == "raw" else INFLATES_AT_MOST):  # otherwise no memory is asked for
        with decoded(file, codec) as stream:
            _skip(stream, skip)
            content = stream.read(size)
            while codec != "raw" and stream.read(_STEP):
                pass
    if len(content) < size:
        raise VolumeError(f"truncated: it does not hold the {size:,} bytes that its header promises; copy it again")
    return np.frombuffer(content, dtype).reshape(shape)


def image_of_voxels(
    file: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    codec: Codec = "raw",
    *,
    start: int = 0,
    skip: int = 0,
    affine: Affine | None = None,
    scaled: Callable[[NDArray[Any]], NDArray[Any]] = lambda voxels: voxels,
) -> Image:
    """The image of a header that was read, its voxels one after the other in `file`.

    Args:
        file: where the voxels are.
        shape: of the header, slowest axis first.
        dtype: of the voxels.
        codec: how they are compressed.
        start: where the compressed data starts.
        skip: decoded bytes to leave out.
        affine: of the image.
        scaled: from stored values to those meant.
    """
    frames, volume = frames_and_shape(shape)

    def decode() -> NDArray[Any]:
        with file.open("rb") as opened:
            opened.seek(start)
            return read_voxels(opened, (frames, *volume), dtype, codec, skip)

    every_frame = once(decode, frames)
    return Image(volume, lambda frame: scaled(every_frame()[frame]), affine, frames)


def _skip(stream: Stream, count: int) -> None:
    while count > 0 and (skipped := stream.read(min(count, _STEP))):
        count -= len(skipped)


def beside(path: Path, name: str) -> Path:
    """The file that a header names: in the folder of the header or below, nowhere else.

    Every format whose headers name files asks here. A link that lies there is followed.

    Raises:
        VolumeError: it is elsewhere, missing, or several files.
    """
    data = path.parent / name
    if not stays_below(name) or "://" in name:
        raise VolumeError(f"its voxels are in {name!r}, which is not beside it: save header and voxels as one file")
    if not data.is_file():
        raise MissingFileError(name)
    return data


class MissingFileError(VolumeError):
    """The file with the voxels of a header is not beside it.

    Attributes:
        name: what the header calls it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"its voxels are in {name!r}, and there is no such file beside it: copy that one too")
        self.name = name


def one_line(error: object) -> str:
    """What a library says, in one line that is not too long and tells of no folder."""
    return without_folders(" ".join(str(error).split()))[:120]


@contextmanager
def parsing(kind: str) -> Iterator[None]:
    """What a header lacks or garbles, told as a `VolumeError`."""
    try:
        yield
    except (VolumeError, MemoryError):
        raise
    except KeyError as error:
        raise VolumeError(f"damaged {kind} header: no field {error}") from error
    except Exception as error:  # foreign bytes raise many kinds
        raise VolumeError(f"damaged {kind} header: {one_line(error)}") from error


def header_lines(file: BinaryIO) -> Iterator[str]:
    """The lines of a header that is text; the file is left behind the last one taken."""
    for line in iter(lambda: file.readline(_LONGEST_HEADER), b""):
        if file.tell() > _LONGEST_HEADER:
            raise VolumeError(f"its header does not end within {_LONGEST_HEADER:,} bytes")
        yield line.decode("latin-1").strip()


def first_bytes(content: bytes) -> str:
    """How a file starts that is not what its name says."""
    return f"it starts with {content[:8]!r}" if content else "it is empty"

"""From what a header says to an array: a shape that can be taken, and the voxels that fill it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.decoding import INFLATES_AT_MOST, Codec, decoded
from featlift.volumes.grid import Shape

#: Of the units that text headers name; all others count as millimetres.
MILLIMETRES = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001}

_STEP = 1 << 20
_LONGEST_HEADER = 1 << 20


def volume_shape(shape: tuple[int, ...], max_voxels: int) -> Shape:
    """The shape (slowest axis first) without further axes of one voxel.

    Raises:
        VolumeError: it is not that of one volume of at most `max_voxels`.
    """
    text = " x ".join(map(str, shape))
    if any(n < 1 for n in shape):
        raise VolumeError(f"an axis without voxels ({text}): correct its header")
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) == 2 or (len(shape) == 3 and 1 in shape):
        raise VolumeError(f"a single image ({text}), not a volume: stack its slices into one file")
    if len(shape) != 3:
        raise VolumeError(f"{len(shape)} dimensions ({text}): split it into 3D volumes")
    if math.prod(shape) > max_voxels:
        raise VolumeError(f"its header declares {math.prod(shape):,} voxels, more than the {max_voxels:,} allowed")
    depth, height, width = shape
    return depth, height, width


def read_voxels(
    file: BinaryIO, shape: Shape, dtype: np.dtype[Any], codec: Codec = "raw", skip: int = 0
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
            if skip:
                stream.read(skip)
            content = stream.read(size)
            while codec != "raw" and stream.read(_STEP):
                pass
    if len(content) < size:
        raise VolumeError(f"truncated: it does not hold the {size:,} bytes that its header promises; copy it again")
    return np.frombuffer(content, dtype).reshape(shape)


@contextmanager
def parsing(kind: str) -> Iterator[None]:
    """What a header lacks or garbles, told as a `VolumeError`."""
    try:
        yield
    except VolumeError:
        raise
    except KeyError as error:
        raise VolumeError(f"damaged {kind} header: no field {error}") from error
    except Exception as error:  # foreign bytes raise many kinds
        raise VolumeError(f"damaged {kind} header: {error}") from error


def header_lines(file: BinaryIO) -> Iterator[str]:
    """The lines of a header that is text; the file is left behind the last one taken."""
    for line in iter(lambda: file.readline(_LONGEST_HEADER), b""):
        if file.tell() > _LONGEST_HEADER:
            raise VolumeError(f"its header does not end within {_LONGEST_HEADER:,} bytes")
        yield line.decode("latin-1").strip()


def first_bytes(content: bytes) -> str:
    """How a file starts that is not what its name says."""
    return f"it starts with {content[:8]!r}" if content else "it is empty"

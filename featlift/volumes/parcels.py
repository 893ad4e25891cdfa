"""Volumes from one process to another: the arrays through a file in memory, the rest as a message.

A pipe would carry a CT of 300 MB in some five thousand pieces, each of them interrupting the process that receives it,
which is the one that keeps a GPU busy. Here it maps a file: nothing is copied.
"""

from __future__ import annotations

import mmap
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ALIGNMENT = 64  # bytes, as numpy aligns arrays


@dataclass(frozen=True)
class Parcel:
    """A value on its way.

    Attributes:
        file: holds its arrays.
        parts: (offset, length) of each array in the file.
        message: the value without them.
    """

    file: Path
    parts: list[tuple[int, int]]
    message: bytes

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return sum(length for _, length in self.parts)


def pack(value: object, file: Path) -> Parcel:
    """Write the arrays of a value to a new file (pickle's protocol 5 hands them out apart from the rest)."""
    arrays: list[pickle.PickleBuffer] = []
    message = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    parts: list[tuple[int, int]] = []
    try:
        with file.open("xb") as opened:
            for array in arrays:
                opened.seek(-opened.tell() % _ALIGNMENT, 1)
                parts.append((opened.tell(), array.raw().nbytes))
                opened.write(array.raw())
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return Parcel(file, parts, message)


def unpack(parcel: Parcel) -> Any:
    """The value. The file's name is gone at once; its memory when the last array is."""
    with parcel.file.open("rb") as opened:
        mapped = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY))
    parcel.file.unlink()
    return pickle.loads(parcel.message, buffers=[mapped[start : start + length] for start, length in parcel.parts])

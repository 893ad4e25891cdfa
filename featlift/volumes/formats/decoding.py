"""A file as the bytes it stands for: as they are, gunzipped or inflated, with checksums checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from typing import BinaryIO, Literal, Protocol

from featlift.errors import VolumeError

Codec = Literal["raw", "gzip", "zlib"]

INFLATES_AT_MOST = 1032  # times, as deflate is made


class Stream(Protocol):
    """What can be read from front to back."""

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes; fewer only at the end."""


@contextmanager
def decoded(file: BinaryIO, codec: Codec) -> Iterator[Stream]:
    """The rest of a file, decoded. What is wrong with it is a `VolumeError` when the reading comes to it."""
    from isal import igzip, isal_zlib

    try:
        if codec == "gzip":
            yield igzip.IGzipFile(fileobj=file, mode="rb")
        else:
            yield file if codec == "raw" else _Inflated(file)
    except (EOFError, BadGzipFile, isal_zlib.error) as error:  # type: ignore[misc]
        raise VolumeError(f"damaged compressed data ({error}): copy it again") from error


class _Inflated:
    """A zlib stream, read as a file is."""

    def __init__(self, file: BinaryIO) -> None:
        from isal import isal_zlib

        self._stream = isal_zlib.decompressobj()
        self._rest = file.read()

    def read(self, size: int, /) -> bytes:
        content: bytes = self._stream.decompress(self._rest, size)
        self._rest = self._stream.unconsumed_tail
        if not content and not self._stream.eof:
            raise EOFError("it has no end")
        return content

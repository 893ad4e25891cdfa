"""Zarr's own access to an object store, with errors of our family."""

from __future__ import annotations

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore

from featlift.remote import Remote


def reading_store(remote: Remote) -> FsspecStore:
    """What is below a URL, for Zarr to read."""
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    with remote.filesystem() as (fs, path):
        # in threads: a file system of Zarr's own event loop would leave its connections open at the end of the process
        return _Told(AsyncFileSystemWrapper(fs, asynchronous=True), read_only=True, path=path)


class _Told(FsspecStore):
    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        try:
            return await super().get(key, prototype, byte_range)
        except Exception as error:  # each back end has its own kinds
            raise Remote(self.fs.sync_fs.unstrip_protocol(self.path)).in_one_line(error) from error

"""The files of a volume as Zarr is shown them: those that were written, in their size, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from featlift.errors import FeatliftError
from featlift.store.layout import METADATA, NAMESPACE
from featlift.store.metadata import DamageError, MetadataError, RecordedFile, check_array


class RecordedFiles(WrapperStore[Store]):
    """A Zarr store over one volume. Zarr takes a file that is not there for zeros; here it is a `StoreError`.

    No folder is listed and nothing is asked of the disk but the files that are read. Of the metadata of arrays the
    SHA-256 is compared too, for they are small and say how everything else is read.

    Args:
        store: where the files are.
        files: those that were written, by key.
        case_id: of the volume, for errors.
    """

    def __init__(self, store: Store, files: Mapping[str, RecordedFile], case_id: str) -> None:
        super().__init__(store)
        self.files = files
        self.case_id = case_id

    def _with_store(self, store: Store) -> RecordedFiles:
        return RecordedFiles(store, self.files, self.case_id)

    def damage(self, reason: str) -> DamageError:
        """The error of a reader who met damage in it."""
        return DamageError(self.case_id, reason)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """See Zarr's own; raises StoreError of a file that is not as it was written."""
        recorded = self.files.get(key)
        if recorded is None:
            return None
        try:
            value = await super().get(key, prototype, byte_range)
        except FeatliftError:
            raise
        except OSError as error:
            raise self.damage(f"{key} cannot be read ({error.strerror or error})") from error
        if value is None:
            raise self.damage(f"{key} is missing")
        if byte_range is None and len(value) != recorded.bytes:
            raise self.damage(f"{key} has {len(value):,} bytes instead of {recorded.bytes:,}")
        if key.endswith(METADATA) and hashlib.sha256(value.to_bytes()).hexdigest() != recorded.sha256:
            raise self.damage(f"{key} is not what was written")
        return value

    def recorded_bytes(self, array: str) -> int:
        """Bytes of all chunks of an array."""
        return sum(file.bytes for key, file in self.files.items() if key.startswith(f"{array}/c/"))


class StoredArray(zarr.Array[Any]):
    """An array of a volume, as Zarr reads it, whose damage is a `StoreError` with case and file."""

    @classmethod
    def at(cls, store: RecordedFiles, path: str, dimensions: tuple[int, ...]) -> StoredArray:
        """The array at a path of a volume.

        Args:
            store: the files of the volume.
            path: of the array, such as ``layers/2/dense``.
            dimensions: numbers of axes that it may have.

        Raises:
            StoreError: it is not there, or cannot be what was written.
        """
        if f"{path}/{METADATA}" not in store.files:
            raise store.damage(f"no array '{path}'")
        try:
            array = zarr.open_array(store, path=path, mode="r", zarr_format=3)
            check_array(array.shape, array.dtype.itemsize, dimensions, store.recorded_bytes(path))
        except FeatliftError:
            raise
        except FileNotFoundError as error:  # the whole folder is gone
            raise store.damage(f"{path}/{METADATA} is missing") from error
        except MetadataError as error:
            raise store.damage(f"{path}: {error}") from error
        except Exception as error:  # what Zarr raises for metadata that make no sense is of many kinds
            raise store.damage(f"{path}/{METADATA} cannot be read ({type(error).__name__})") from error
        return cls(array.async_array)

    @property
    def ours(self) -> dict[str, Any]:
        """Our attributes of it, empty if it has none."""
        attributes: dict[str, Any] = dict(self.attrs)
        ours = attributes.get(NAMESPACE)
        return ours if isinstance(ours, dict) else {}

    def __getitem__(self, selection: Any) -> Any:
        """See Zarr's own.

        Raises:
            StoreError: a chunk is damaged, missing or cannot be read.
        """
        try:
            return super().__getitem__(selection)
        except (FeatliftError, IndexError):  # told already, or a selection that makes no sense
            raise
        except (OSError, ValueError, RuntimeError) as error:  # of crc32c and of the codecs
            assert isinstance(self.store, RecordedFiles)
            raise self.store.damage(f"{self.path} is damaged ({' '.join(str(error).split())[:100]})") from error

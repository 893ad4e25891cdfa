"""A store in an object store, where nothing is renamed: a volume's keys are put first and its ``zarr.json`` last.

One key is put in one step, and read as it was put last (S3, since 2020, and MinIO are consistent in that). A volume is
there when its group's ``zarr.json`` is, so that is the commit, and to replace a volume it is removed before anything
else is touched.
"""

from __future__ import annotations

import hashlib
from glob import has_magic
from typing import TYPE_CHECKING, Any

from featlift.atomic_io import keys_below
from featlift.errors import InputError, OutputError, StoreError
from featlift.remote import Remote
from featlift.staging import temporary_folder
from featlift.store.backend import Fill, IsThere, StoreBackend
from featlift.store.layout import BASIS, METADATA, VOLUMES, VOLUMES_METADATA

if TYPE_CHECKING:
    from zarr.abc.store import Store

_BLOCK = 8 << 20  # bytes asked for at once when all are read
_PROBE = ".featlift-writable"


class RemoteBackend(StoreBackend):
    """A prefix of an object store; see `StoreBackend`.

    Args:
        remote: its URL.

    Raises:
        InputError: of a web server, which lists nothing and takes nothing.
    """

    def __init__(self, remote: Remote) -> None:
        if remote.is_web:
            raise InputError(f"{remote}: a web server holds no store: give s3:// or a folder")
        self.remote = remote

    def __str__(self) -> str:
        return str(self.remote)

    @property
    def name(self) -> str:
        return self.remote.name

    def is_empty(self) -> bool:
        """Also with what a process left that was killed while it made the store: that comes before its commit."""
        if (self.remote / METADATA).exists():
            return False
        return all(key in (VOLUMES_METADATA, BASIS) or key.startswith(".") for key in self.remote.files())

    def exists(self) -> bool:
        try:
            return (self.remote / METADATA).exists() or bool(self.remote.files())
        except FileNotFoundError:  # not even the bucket
            return False

    def read(self, key: str) -> bytes:
        return (self.remote / key).read_bytes()

    def sizes(self, folder: str) -> dict[str, int]:
        files = (self.remote / folder if folder else self.remote).files()
        return {key: stamp.bytes or 0 for key, stamp in files.items() if key}

    def sha256(self, key: str) -> str:
        with (self.remote / key).open(block=_BLOCK) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def changed(self, key: str) -> int:
        return (self.remote / key).stamped().mtime_ns

    def complete(self) -> dict[str, int]:
        """One listing of all keys: a request for a thousand of them."""
        files = (self.remote / VOLUMES).files()
        parts = {key: key.split("/") for key in sorted(files)}
        return {of[0]: files[key].mtime_ns for key, of in parts.items() if of[1:] == [METADATA]}

    def listed(self) -> list[str]:
        """Complete volumes only: another may be on its way, or was left there by a process that was killed."""
        return list(self.complete())

    def files(self, folder: str) -> Store:
        from featlift.store.remote_reading import reading_store

        return reading_store(self.remote / folder)

    def check_writable(self) -> None:
        try:
            self._put_bytes(_PROBE, b"")
            self.remove(_PROBE)
        except OSError as error:
            raise OutputError(f"cannot write {self}: {error.strerror or error}; give another place with -o") from error

    def create(self, fill: Fill) -> None:
        with temporary_folder() as folder:
            fill(folder / "store")
            contents = {key: (folder / "store" / key).read_bytes() for key in keys_below(folder / "store")}
        metadata = contents.pop(METADATA)
        for key, content in contents.items():
            self._put_bytes(key, content)
        self._put_unless_there(METADATA, metadata)

    def prepare(self) -> None:
        """Nothing is staged here."""

    def publish(self, case_id: str, fill: Fill, is_there: IsThere) -> bool:
        group = f"{VOLUMES}/{case_id}"
        with temporary_folder() as folder:
            staged = folder / "volume"
            fill(staged)
            if is_there(staged):
                return False
            sizes = {key: (staged / key).stat().st_size for key in keys_below(staged)}
            self.remove(f"{group}/{METADATA}")  # from here on it is absent, until the last line puts the new one
            self._remove_all([f"{group}/{key}" for key in self.sizes(group) if key not in sizes])
            keys = [key for key in sizes if key != METADATA]
            with (self.remote / group).filesystem() as (fs, path):
                for key in keys:
                    fs.put_file(str(staged / key), f"{path}/{key}")
            if {**self.sizes(group), METADATA: sizes[METADATA]} != sizes:
                raise StoreError(f"{case_id}: another process writes another volume of this id to {self}; run it again")
            self._put_bytes(f"{group}/{METADATA}", (staged / METADATA).read_bytes())
        return True

    def write(self, key: str, make: Fill) -> None:
        with temporary_folder() as folder:
            make(folder / "draft")
            with (self.remote / key).filesystem() as (fs, path):
                fs.put_file(str(folder / "draft"), path)

    def remove(self, key: str) -> None:
        try:
            with (self.remote / key).filesystem() as (fs, path):
                fs.rm_file(path)
        except FileNotFoundError:
            pass

    def erase(self) -> None:
        """First what makes volumes complete, the store's own metadata last: until then it is a store, and ours."""
        self._remove_all([f"{VOLUMES}/{case_id}/{METADATA}" for case_id in self.complete()])
        if not self.complete():  # many keys are removed by one request, which does not fail if some of them stay
            self._remove_all([key for key in self.sizes("") if key != METADATA])
        if self.sizes("").keys() > {METADATA}:
            raise OutputError(f"cannot erase {self}: some of it stays; are you allowed to delete there?")
        self.remove(METADATA)

    def is_idle(self) -> bool:
        """Nobody can tell: a job that reads its first scan, or lifts it, leaves no trace here."""
        return False

    def _put_bytes(self, key: str, content: bytes, **how: Any) -> None:
        with (self.remote / key).filesystem() as (fs, path):
            fs.pipe_file(path, content, **how)

    def _put_unless_there(self, key: str, content: bytes) -> None:
        """Of two processes that put it at once, one wins, where the object store can tell (If-None-Match)."""
        try:
            self._put_bytes(key, content, mode="create")
        except OSError:
            if not (self.remote / key).exists():
                self._put_bytes(key, content)

    def _remove_all(self, keys: list[str]) -> None:
        with self.remote.filesystem() as (fs, path):
            paths = [f"{path}/{key}" for key in keys]
            for literal in filter(has_magic, paths):  # what rm would take for a pattern
                fs.rm_file(literal)
            if plain := [each for each in paths if not has_magic(each)]:
                fs.rm(plain)

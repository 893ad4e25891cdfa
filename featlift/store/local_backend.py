"""A store in a folder: what is written is synced, then renamed to its place."""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from featlift.atomic_io import check_writable, keys_below, sync, sync_tree, write_atomically
from featlift.staging import remove_abandoned, staging_name
from featlift.store.backend import Fill, IsThere, StoreBackend
from featlift.store.layout import METADATA, RUNS, STAGING, VOLUMES


class LocalBackend(StoreBackend):
    """A folder; see `StoreBackend`.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def is_empty(self) -> bool:
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def exists(self) -> bool:
        return self.path.exists()

    def read(self, key: str) -> bytes:
        return _regular(self.path / key).read_bytes()

    def sizes(self, folder: str) -> dict[str, int]:
        below, sizes = self.path / folder, {}
        with suppress(FileNotFoundError):  # another process is replacing it
            for key in keys_below(below):
                sizes[key] = (below / key).stat().st_size
        return sizes

    def sha256(self, key: str) -> str:
        with _regular(self.path / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def changed(self, key: str) -> int:
        return (self.path / key).stat().st_mtime_ns

    def complete(self) -> dict[str, int]:
        found = {}
        for case_id in self.listed():
            with suppress(FileNotFoundError):  # incomplete, or another job replaces it this very moment
                found[case_id] = (self.path / VOLUMES / case_id / METADATA).stat().st_mtime_ns
        return found

    def listed(self) -> list[str]:
        """Every folder: volumes appear whole, so one without metadata has lost it."""
        folder = self.path / VOLUMES
        return sorted(case.name for case in folder.iterdir() if case.is_dir()) if folder.is_dir() else []

    def files(self, folder: str) -> LocalStore:
        return _RegularFiles(self.path / folder, read_only=True)

    def check_writable(self) -> None:
        check_writable(self.path)

    def create(self, fill: Fill) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.path.parent.glob(f".{self.path.name}~*"))
        draft = self._aside()
        try:
            fill(draft)
            sync_tree(draft)
            _rename_unless_there(draft, self.path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def prepare(self) -> None:
        for folder in (VOLUMES, STAGING, RUNS):
            (self.path / folder).mkdir(exist_ok=True)
        remove_abandoned((self.path / STAGING).iterdir())

    def publish(self, case_id: str, fill: Fill, is_there: IsThere) -> bool:
        staged = self.path / STAGING / staging_name()
        try:
            fill(staged)
            return self._move_in(staged, self.path / VOLUMES / case_id, is_there)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def write(self, key: str, make: Fill) -> None:
        write_atomically(self.path / key, make, self.path / STAGING)

    def remove(self, key: str) -> None:
        (self.path / key).unlink(missing_ok=True)

    def erase(self) -> None:
        aside = self._aside()
        self.path.rename(aside)  # at once, so that a stop leaves no half of a store
        shutil.rmtree(aside)

    def is_idle(self) -> bool:
        return not any((self.path / STAGING).iterdir())

    def _aside(self) -> Path:
        return self.path.with_name(staging_name(f".{self.path.name}"))

    def _move_in(self, staged: Path, place: Path, is_there: IsThere) -> bool:
        """The commit. An older volume is moved aside first: a folder cannot be renamed onto a filled one."""
        if not place.exists() and _rename_unless_there(staged, place):
            return True
        if is_there(staged):
            return False
        aside = self.path / STAGING / staging_name()
        with suppress(FileNotFoundError):  # another job is replacing it too
            place.rename(aside)
        try:
            is_first = _rename_unless_there(staged, place)
        except OSError:
            with suppress(OSError):
                aside.rename(place)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        return is_first


class _RegularFiles(LocalStore):
    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """See Zarr's own."""
        with suppress(FileNotFoundError):
            _regular(self.root / key)
        return await super().get(key, prototype, byte_range)


def _regular(path: Path) -> Path:
    """A path that can be read to its end; raises OSError of a pipe or device, at which reading hangs or never ends."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


def _rename_unless_there(folder: Path, place: Path) -> bool:
    """Give a folder its final name. If another process was faster, its folder, of the same content, stays: False."""
    try:
        folder.rename(place)
    except OSError:
        if not (place / METADATA).is_file():
            raise
        return False
    sync(place.parent)
    return True

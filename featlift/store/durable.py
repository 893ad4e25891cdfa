"""Files that are either all there or not at all, also after a crash or a power cut."""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from featlift.checksums import sha256_of_file
from featlift.errors import OutputError


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """What the system says of a place that cannot be written, as an `OutputError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; check the path, its permissions and free space") from error


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` every file and folder below `folder`, and itself."""
    for place, _, files in os.walk(folder, topdown=False):
        for file in files:
            sync(Path(place, file))
        sync(Path(place))


def link_or_copy_tree(folder: Path, place: Path) -> None:
    """Make `place` hold every file of `folder`: as hard links where the disk can, as copies elsewhere."""
    for key in keys_below(folder):
        (place / key).parent.mkdir(parents=True, exist_ok=True)
        try:
            (place / key).hardlink_to(folder / key)
        except OSError:  # another disk, or one without links
            shutil.copyfile(folder / key, place / key)


def write_atomically(path: Path, write: Callable[[Path], object], staging: Path) -> None:
    """Let `write` make a draft in the folder `staging`, then put it in the place of `path` in one step."""
    staging.mkdir(exist_ok=True)
    draft = staging / staging_name()
    try:
        write(draft)
        sync(draft)
        draft.replace(path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, value: object, staging: Path) -> None:
    """`write_atomically` a JSON value, indented for people."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda draft: draft.write_text(text), staging)


def keys_below(folder: Path) -> Iterator[str]:
    """Every file below a folder, as a Zarr key, in order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def fingerprint(path: Path) -> dict[str, int | str]:
    """Size and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def staging_name(prefix: str = "") -> str:
    """A name that no other process uses and that tells whose it is."""
    return f"{prefix}~{socket.gethostname()}~{os.getpid()}~{uuid.uuid4().hex[:8]}"


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Clear away what processes of this machine were writing when they were killed."""
    for path in paths:
        if _is_abandoned(path.name):
            # another process may be clearing the same
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _is_abandoned(name: str) -> bool:
    """Whether the process that a staging name belongs to ran on this machine and is gone."""
    _, host, process, _ = ("~~~" + name).rsplit("~", 3)
    return process.isdigit() and is_gone(host, int(process))


def is_gone(host: object, process: object) -> bool:
    """Whether a process ran on this machine and runs no more; False where that cannot be known."""
    if host != socket.gethostname() or not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, ProcessLookupError)  # any other: it runs, under another user
    return False


def check_writable(path: Path) -> None:
    """Fail before hours of work rather than after.

    Raises:
        OutputError: nothing can be written at `path`.
    """
    place = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    try:
        with TemporaryDirectory(dir=place, prefix=".featlift-"):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; give another place with -o") from error

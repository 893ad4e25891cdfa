"""Files that are either all there or not at all, also after a crash or a power cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from featlift.checksums import sha256_of_file
from featlift.errors import AccessError, OutputError, RemoteError
from featlift.staging import remove_abandoned, staging_name, temporary_folder


@contextmanager
def as_output_error(path: object) -> Iterator[None]:
    """What the system says of a place that cannot be written, as an `OutputError`.

    That an object store cannot be reached just now stays a `RemoteError`: it may be reached again for the next volume.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or (isinstance(error, RemoteError) and not isinstance(error, AccessError)):
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


def write_atomically(path: Path, write: Callable[[Path], object], staging: Path | None = None) -> None:
    """Let `write` make a draft of the same suffix, then put it in the place of `path` in one step.

    Args:
        path: the file.
        write: makes the draft, by which suffix writers choose the format, as of ``.nii.gz``.
        staging: a folder on the same disk for the draft; None puts it beside `path`, where drafts of processes that
            were killed are cleared away.

    Raises:
        OutputError: the folder cannot be written.
    """
    with as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if staging is None:
            _clear(path.parent.absolute())
        else:
            staging.mkdir(exist_ok=True)
        draft = (staging or path.parent) / f"{staging_name('.')}{''.join(path.suffixes[-2:])}"
        try:
            write(draft)
            sync(draft)
            draft.replace(path)
            sync(path.parent)
        finally:
            draft.unlink(missing_ok=True)


def write_folder_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a folder beside `path`, then move it there; one that is there already is removed just before.

    Raises:
        OutputError: the folder cannot be written.
    """
    with as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent) as staging:
            write(staging / path.name)
            sync_tree(staging)
            if path.is_dir():  # a folder cannot be replaced in one step
                shutil.rmtree(path)
            (staging / path.name).replace(path)
        sync(path.parent)


@cache  # a folder of ten thousand predictions is not looked through for each of them
def _clear(folder: Path) -> None:
    """Remove the drafts of processes that were killed."""
    remove_abandoned(folder.glob(".~*~*"))


def keys_below(folder: Path) -> Iterator[str]:
    """Every file below a folder, as a Zarr key, in order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def fingerprint(path: Path) -> dict[str, int | str]:
    """Size and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


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

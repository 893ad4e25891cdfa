"""Files in the making: their names tell whose they are, so that what a killed process left can be cleared away."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = "featlift"


def staging_name(prefix: str = "") -> str:
    """A name that no other process uses and that tells whose it is."""
    return f"{prefix}~{socket.gethostname()}~{os.getpid()}~{uuid.uuid4().hex[:8]}"


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Clear away what processes of this machine were writing when they were killed."""
    for path in paths:
        if _is_abandoned(path.name):
            # another process may be clearing the same
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """A `new_temporary_folder`, removed at the end."""
    folder = new_temporary_folder(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_temporary_folder(place: Path | None = None) -> Path:
    """A folder in `place`, by default where the system keeps temporary files (``TMPDIR``).

    What killed processes left there is removed.
    """
    place = place or Path(tempfile.gettempdir())
    remove_abandoned_temporary(place)
    folder = place / staging_name(_TEMPORARY)
    folder.mkdir(mode=0o700)  # for nobody else's eyes
    return folder


def remove_abandoned_temporary(place: Path | None = None) -> None:
    """Clear away the temporary folders of processes that are gone."""
    remove_abandoned((place or Path(tempfile.gettempdir())).glob(f"{_TEMPORARY}~*"))


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

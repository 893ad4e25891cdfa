"""Files in the making: their names tell whose they are, so that what a killed process left can be cleared away."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TEMPORARY = "featlift"


def staging_name(prefix: str = "") -> str:
    """A name that no other process uses and that tells whose it is."""
    me = this_process()
    return f"{prefix}~{me.host}~{me.pid}~{me.namespace}.{me.started}.{uuid.uuid4().hex[:8]}"


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
    _, host, pid, rest = ("~~~" + name).rsplit("~", 3)
    if not pid.isdigit():
        return False
    namespace, started, *_ = *rest.split("."), "", ""  # names of before said neither
    return Process(host, int(pid), namespace if "." in rest else "", started if "." in rest else "").is_alive() is False


@dataclass(frozen=True)
class Process:
    """A process, so that it can be told from another that later has its number.

    In a container the first process is number 1, and a container that is started again often keeps its host name: host
    and number alone are those of a process that is long gone.

    Attributes:
        host: name of the machine.
        pid: its number.
        namespace: in which it has that number; empty where the system does not tell.
        started: when it was, in units of its own; empty where the system does not tell.
    """

    host: str
    pid: int
    namespace: str = ""
    started: str = ""

    def is_alive(self) -> bool | None:
        """Whether it runs; None where that cannot be known from here: on another machine, or in another container."""
        me = this_process()
        if self.host != me.host or (self.namespace and self.namespace != me.namespace):
            return None
        try:
            os.kill(self.pid, 0)
        except (OSError, OverflowError) as error:
            if isinstance(error, ProcessLookupError):
                return False  # any other error: it runs, under another user
        started = _started(self.pid)
        return not self.started or not started or started == self.started


def this_process() -> Process:
    """The process that asks."""
    return Process(socket.gethostname(), os.getpid(), _namespace(), _started(os.getpid()))


def _namespace() -> str:
    """The number of this process's PID namespace, as Linux tells it."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in ticks since this machine was, and a part of what tells this start from others."""
    try:
        ticks = (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        )  # the name before may hold anything
        return f"{ticks}-{Path('/proc/sys/kernel/random/boot_id').read_text()[:8]}"
    except (OSError, IndexError):
        return ""

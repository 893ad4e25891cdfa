"""Run a function in a process of its own: it may crash, hang, print or eat memory, and all of it is told."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_SECONDS = 20
_ADDRESS_SPACE = 6 << 30  # bytes beyond what the process starts with

_context = get_context("forkserver")  # a new process has all imports done, and no threads of the test
_context.set_forkserver_preload(["tests.volumes.second_readers", "featlift.volumes.dicom", "isal.igzip", "gdcm"])


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        value: that it returned.
        error: that it raised, if it did.
        trace: of the error.
        death: how the process ended, if it did.
        printed: to standard output and standard error, by native code too.
        megabytes: by which its memory was larger at its peak than at its start; 0 where the system does not tell.
    """

    value: Any = None
    error: Exception | None = None
    trace: str = ""
    death: str = ""
    printed: str = ""
    megabytes: int = 0


class Sandbox:
    """A process that runs one call after the other; another takes its place when it ends."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: Any = None
        self._connection: Any = None

    def run(self, function: Callable[..., Any], *arguments: Any) -> Outcome:
        """Call an importable function."""
        if self._process is None:
            self._connection, others = _context.Pipe()
            self._process = _context.Process(target=_serve, args=(others, self._log), daemon=True)
            self._process.start()
            others.close()
        self._connection.send((function, arguments))
        death = f"no end within {_SECONDS} s"
        if self._connection.poll(_SECONDS):
            try:
                outcome: Outcome = self._connection.recv()
            except EOFError:
                self._process.join()
                code = self._process.exitcode
                death = signal.Signals(-code).name if code < 0 else f"exit with {code}"
            else:
                return outcome
        printed = self._log.read_text(errors="replace") if self._log.exists() else ""
        self.close()
        return Outcome(death=death, printed=printed)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._connection.close()
            self._process.join(1)
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(connection: Connection, log: Path) -> None:
    file = os.open(log, os.O_CREAT | os.O_RDWR | os.O_TRUNC | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if used := _memory("VmSize"):
        resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE, used + _ADDRESS_SPACE))
    gc.freeze()  # what was imported is not looked through after each call
    flush = ctypes.CDLL(None).fflush
    with contextlib.suppress(EOFError):
        while True:
            function, arguments = connection.recv()
            os.ftruncate(file, 0)
            gc.collect()
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            start = _memory("VmRSS")
            value, error, trace = None, None, ""
            try:
                value = function(*arguments)
            except Exception as raised:
                trace = traceback.format_exc()
                error = raised
            megabytes = (_memory("VmHWM") - start) >> 20
            flush(None)
            printed = os.pread(file, 2000, 0).decode(errors="replace")
            try:
                connection.send(Outcome(value, error, trace, "", printed, megabytes))
            except Exception:  # an error that cannot be sent
                connection.send(Outcome(None, RuntimeError(repr(error)), trace, "", printed, megabytes))


def _memory(what: str) -> int:
    """Bytes, 0 where the system does not tell."""
    try:
        found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0

"""Processes: how many run at once, that none outlives the one that started it, what ended one, what memory one took."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path


def cores() -> int:
    """Processor cores that this process may use: those of its job, where the system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ending(exit_code: int | None) -> str:
    """What ended a process: the name of a signal, or its exit code."""
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"


def end_with_parent() -> None:
    """End this process, at once, when the one that started it is gone, whatever ended that."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def forget_peak_memory() -> None:
    """Let `peak_memory` begin anew from what is resident now, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int | None:
    """Most bytes of this process that were resident at once, libraries included; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)

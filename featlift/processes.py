"""Processes: how many run at once, that none outlives the one that started it, and what ended one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


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

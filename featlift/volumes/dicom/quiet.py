"""Silence for the warnings and log lines of pydicom: what matters of them is raised as an error."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_lock = Lock()
_depth = 0
_undo = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom off the terminal, from any number of threads.

    Both switches belong to the process: the first thread to come turns them off, the last to leave turns them on.
    """
    global _depth
    with _lock:
        if _depth == 0:
            _silence()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _undo.close()


def _silence() -> None:
    logger = logging.getLogger("pydicom")
    _undo.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL + 1)
    _undo.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")

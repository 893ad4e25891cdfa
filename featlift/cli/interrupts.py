"""Ctrl-C that cannot get lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_INTERRUPTED = 128 + signal.SIGINT


@contextmanager
def remembered_interrupts() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt at Ctrl-C as ever, and remember it; a second one ends the process where it stands.

    Libraries swallow the exception here and there, in imports guarded by a bare ``except`` or while objects are
    collected. Calling what this yields, between two volumes, raises it again if there was one.
    """
    interrupted = False

    def remember(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            os._exit(_INTERRUPTED)
        interrupted = True
        raise KeyboardInterrupt

    def raise_again() -> None:
        if interrupted:
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield raise_again
    finally:
        signal.signal(signal.SIGINT, previous)

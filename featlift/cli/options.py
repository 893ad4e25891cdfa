"""Texts of the command line to values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from featlift.config.options import numbers as numbers_of

Number = TypeVar("Number", int, float)


def numbers(text: str | None, kind: type[Number], option: str) -> tuple[Number, ...]:
    """Read ``"1,2,3"``; nothing gives an empty tuple."""
    return numbers_of(kind).read(text, option) if text else ()


def words(text: str | None) -> tuple[str, ...]:
    """Read ``"t1,t2,flair"``; nothing gives an empty tuple."""
    return tuple(word.strip() for word in text.split(",")) if text else ()


def human_seconds(count: float) -> str:
    """A time for people."""
    for unit, length in (("s", 60), ("min", 60), ("h", 24)):
        if count < length:
            return f"{count:.1f} {unit}"
        count /= length
    return f"{count:.1f} days"


def times(values: Iterable[float]) -> str:
    """A shape or spacing for people, such as ``48 x 512 x 512``."""
    return " x ".join(f"{value:.4g}" for value in values)

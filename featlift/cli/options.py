"""Texts of the command line to values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from featlift.errors import OptionError

Number = TypeVar("Number", int, float)


def numbers(text: str | None, kind: Callable[[str], Number], option: str) -> tuple[Number, ...]:
    """Read ``"1,2,3"``; nothing gives an empty tuple."""
    if not text:
        return ()
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        whole = "whole " if kind is int else ""
        raise OptionError(f"{option} {text!r}: give {whole}numbers separated by commas") from error


def words(text: str | None) -> tuple[str, ...]:
    """Read ``"t1,t2,flair"``; nothing gives an empty tuple."""
    return tuple(word.strip() for word in text.split(",")) if text else ()


def size(text: str, option: str) -> int:
    """Read ``"100GB"`` or ``"500MiB"`` into bytes."""
    from featlift.sizes import parse_size

    try:
        count = parse_size(text)
    except OptionError:
        count = None
    if count is None:
        raise OptionError(f"{option} {text!r}: give a size such as 500MiB or 100GB")
    return count


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

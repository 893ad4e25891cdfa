"""Texts of the command line to values."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

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


def frame_of(text: str | None) -> int | Literal["all"] | None:
    """Read ``"3"`` or ``"all"``."""
    if text is None or text == "all":
        return "all" if text else None
    if not text.isdigit():
        raise OptionError(f"--frame {text!r}: give a number from 0, or all")
    return int(text)


def layers(text: str) -> tuple[int | str, ...]:
    """Read ``"3,6,-1"`` or ``"stride16"``."""
    parts = text.replace(" ", "").split(",")
    return tuple(int(part) if re.fullmatch(r"-?\d+", part) else part for part in parts)


def model_args(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` pairs; values are Python literals, anything else is a string."""
    arguments: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise OptionError(f"--model-arg {text!r}: give KEY=VALUE, as in img_size=448")
        if key in ("name", "weights", "weights_prefix", "rope_periods", "trainable"):
            raise OptionError(f"--model-arg {text!r}: that is no argument of timm's; featlift has options of its own")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments


def size(text: str, option: str) -> int:
    """Read ``"100GB"`` or ``"500MiB"`` into bytes."""
    from featlift.lifting.budget import parse_size

    try:
        count = parse_size(text)
    except OptionError:
        count = None
    if count is None:
        raise OptionError(f"{option} {text!r}: give a size such as 500MiB or 100GB")
    return count


def decimal_bytes(count: float) -> str:
    """Bytes for people, as disks are sold and quotas are given: three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 999.5 else f"{count:,.0f} TB"


def human_bytes(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


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

"""One option: how its value is written on the command line, in a file and in Python, and whether features depend on it.

A value may come as the text of the command line (``"1,1,2"``), as TOML has it (``[1, 1, 2]``) or from Python (``1.0``).
`Option.read` makes one of all of them, and refuses what is none in a line that names the option as its user wrote it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any

from featlift.errors import OptionError
from featlift.sizes import parse_size

Read = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        read: makes a value of what was given, or raises an OptionError that begins with the name it is told.
        parameter: the type under which the command line reads it: ``str``, ``int``, ``float``, ``bool`` or ``list``.
        choices: what it can be, for ``--help``.
        least: of numbers.
    """

    read: Read
    parameter: type = str
    choices: str | None = None
    least: int | None = None


@dataclass(frozen=True)
class Option:
    """What is known of a field of a configuration.

    Attributes:
        kind: of its value.
        help: a line for people.
        feature: whether features, or what is kept of them, depend on it: it is part of the recipe then.
        everyday: whether ``--help`` shows it first.
        flags: names on the command line that are not its own with dashes.
        environment: the variable that sets it.
    """

    kind: Kind
    help: str
    feature: bool = False
    everyday: bool = False
    flags: tuple[str, ...] = ()
    environment: str | None = None


def option(default: Any, kind: Kind, help: str, **more: Any) -> Any:  # noqa: A002 - the word of command lines
    """A field of a configuration; `more` as for `Option`."""
    return field(default=default, metadata={"option": Option(kind, help, **more)})


def nearest(word: str, words: Sequence[str]) -> str:
    """What to say of a word that is none of these."""
    known = {each.casefold(): each for each in words}
    found = get_close_matches(word.casefold(), known, n=1, cutoff=0.5)
    return f"; did you mean {known[found[0]]}?" if found else ""


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        value = str(value) if not isinstance(value, (list, tuple, dict, bool)) else None
    if value is None:
        raise OptionError(f"{name}: give a text")
    return str(value)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{name} {value!r}: give true or false")
    return value


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} {value!r}: give a number") from error


def whole(least: int) -> Kind:
    """A whole number, not below `least`."""

    def read(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise OptionError(f"{name} {value!r}: give a whole number, at least {least}")
        return value

    return Kind(read, int, least=least)


def one_of(*words: str) -> Kind:
    """One of a few words, in any case."""
    return Kind(lambda value, name: read_word(_text(value, name), name, words), choices="|".join(words))


def some_of(*words: str) -> Kind:
    """Some of a few words, in any case, with commas between."""

    def read(value: Any, name: str) -> tuple[str, ...]:
        return tuple(read_word(part, name, words) for part in _parts(value, name))

    return Kind(read, choices="|".join(words) + ",...")


def numbers(kind: type[int] | type[float]) -> Kind:
    """One or several numbers, with commas between."""

    def read(value: Any, name: str) -> tuple[int | float, ...]:
        parts: Any = value.split(",") if isinstance(value, str) else value
        parts = parts if isinstance(parts, (list, tuple)) else (parts,)
        try:
            if kind is int and any(isinstance(part, float) and not part.is_integer() for part in parts):
                raise ValueError
            return tuple(kind(part) for part in parts)
        except (TypeError, ValueError) as error:
            what = "whole numbers" if kind is int else "numbers"
            raise OptionError(f"{name} {value!r}: give {what} separated by commas") from error

    return Kind(read)


def read_word(value: str, name: str, words: Sequence[str]) -> str:
    """The one of these words that is meant, in any case; raises an OptionError that begins with `name`."""
    folded = {word.casefold(): word for word in words}
    if (found := folded.get(value.strip().casefold())) is not None:
        return found
    raise OptionError(f"{name} {value!r}: choose one of {', '.join(words)}{nearest(value, words)}")


def _parts(value: Any, name: str) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        raise OptionError(f"{name} {value!r}: give words separated by commas")
    return tuple(_text(part, name).strip() for part in parts)


def _patterns(value: Any, name: str) -> tuple[str, ...]:
    return tuple(_text(each, name) for each in ([value] if isinstance(value, str) else value))


def _frame(value: Any, name: str) -> int | str:
    text = str(value)
    if text == "all":
        return text
    if isinstance(value, bool) or not text.isdigit():
        raise OptionError(f"{name} {value!r}: give a number from 0, or all")
    return int(text)


def _layers(value: Any, name: str) -> tuple[int | str, ...]:
    parts = value.replace(" ", "").split(",") if isinstance(value, str) else value
    parts = parts if isinstance(parts, (list, tuple)) else (parts,)
    return tuple(int(part) if re.fullmatch(r"-?\d+", str(part)) else _text(part, name) for part in parts)


_NOT_TIMMS = (
    *("name", "weights", "weights_prefix", "rope_periods", "position_resize", "trainable", "precision", "device"),
)


def _model_args(value: Any, name: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    given = value.items() if isinstance(value, dict) else (_pair(each, name) for each in value)
    for key, each in given:
        if key in _NOT_TIMMS:
            shown = f"{key}={each}"
            raise OptionError(f"{name} {shown!r}: that is no argument of timm's; featlift has options of its own")
        arguments[key] = each
    return arguments


def _pair(text: Any, name: str) -> tuple[str, Any]:
    key, equals, value = str(text).partition("=")
    if not equals or not key.isidentifier():
        raise OptionError(f"{name} {text!r}: give KEY=VALUE, as in img_size=448")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _size(value: Any, name: str, auto: bool = True) -> int | str:
    try:
        if parse_size(value) is None and not auto:
            raise OptionError("no size")
    except OptionError as error:
        wanted = "auto or a size" if auto else "a size"
        raise OptionError(f"{name} {value!r}: give {wanted} such as 500MiB or 100GB") from error
    return value  # type: ignore[no-any-return]


TEXT = Kind(_text)
FLAG = Kind(_flag, bool)
NUMBER = Kind(_number, float)
WORDS = Kind(_parts)
PATTERNS = Kind(_patterns, list)
FRAME = Kind(_frame)
LAYERS = Kind(_layers)
MODEL_ARGS = Kind(_model_args, list)
SIZE = Kind(_size)  # or auto
BYTES = Kind(partial(_size, auto=False))

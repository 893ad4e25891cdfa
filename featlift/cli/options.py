"""Options that several commands have, and texts of the command line to values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import typer

from featlift.config.options import numbers as numbers_of

Number = TypeVar("Number", int, float)

MaskPlace = Annotated[
    str,
    typer.Option(help="A folder of masks, or of folders of them, named as the cases; a CSV with id,path; one file."),
]
MaskPattern = Annotated[
    str | None, typer.Option(help="Files of the folder that are masks, as '*_label.nrrd': * names the case.")
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        help="1=liver,2=spleen, or a file of them. Masks of named structures: these alone. Default: those in masks."
    ),
]

InstancePlace = Annotated[
    str | None,
    typer.Option("--instances", help="Masks of objects, each in a colour by its id: a folder, a CSV, or a file."),
]
TruePlace = Annotated[
    str | None, typer.Option("--true-instances", help="The true objects: marks what --instances split or merged.")
]


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

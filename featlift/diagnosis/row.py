"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Row:
    """What was found of one thing.

    Attributes:
        name: of the thing.
        status: ``PASS``; ``WARN`` for what may be meant so; ``FAIL`` for what stops an extraction.
        what: was found.
        fix: what to do about it; empty where nothing is.
    """

    name: str
    status: Status
    what: str
    fix: str = ""

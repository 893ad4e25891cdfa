"""What became of one scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from featlift.errors import FeatliftError
from featlift.lifting.budget import is_out_of_memory
from featlift.names import without_folders


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes:
        id: case id.
        status: ``done``, ``failed`` with a reason, or ``skipped`` because another process was faster.
        reason: why it failed.
        seconds: wall time by stage: read, prepare, lift, write.
        bytes: ``read`` and ``written``, of files.
    """

    id: str
    status: Literal["done", "failed", "skipped"]
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)


def failure(case_id: str, error: Exception, seconds: dict[str, float] | None = None) -> Outcome:
    """A scan that failed, with what its error says in one line; of paths it keeps the names, see `run_record`."""
    if isinstance(error, FeatliftError):
        reason = str(error)
    elif is_out_of_memory(error):
        reason = f"out of memory ({' '.join(str(error).split()) or 'host'}): try --size, --spacing or --workers 1"
    else:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Outcome(case_id, "failed", without_folders(reason), seconds or {})

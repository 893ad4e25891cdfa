"""Shards: the part of a cohort that one job of several takes, decided by every job alone and alike."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featlift.errors import FeatliftError, OptionError
from featlift.volumes import Scan
from featlift.volumes.opening import signature


@dataclass(frozen=True)
class Shard:
    """One part of several.

    Attributes:
        number: which, counted from 1.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``"3/8"``, the third of eight.

        Raises:
            OptionError: no such part.
        """
        parts = re.fullmatch(r"(\d+)/(\d+)", text.replace(" ", ""))
        if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
            raise OptionError(f"--shard {text!r}: give I/N, counted from 1, as in 1/8 to 8/8")
        return cls(int(parts[1]), int(parts[2]))

    @classmethod
    def of_slurm(cls, environment: Mapping[str, str]) -> Shard | None:
        """The part that a task of a Slurm array takes, or None outside of an array.

        Raises:
            OptionError: the tasks are no range, as after ``--array=3,7``: the other shards would have no task.
        """
        task, count, first, last, step = (
            int(text) if (text := environment.get(f"SLURM_ARRAY_TASK_{name}", missing)).isdigit() else None
            for name, missing in (("ID", ""), ("COUNT", ""), ("MIN", ""), ("MAX", ""), ("STEP", "1"))
        )
        if task is None or count is None or first is None or last is None:
            return None
        number, beside = divmod(task - first, step or 1)
        if beside or (last - first) // (step or 1) + 1 != count:
            raise OptionError(
                f"the {count} tasks of this Slurm array, from {first} to {last}, are no range, so which scans are of "
                f"task {task} is unclear: give --shard I/N, or --shard 1/1 for all scans"
            )
        return cls(number + 1, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def take(self, scans: Sequence[Scan]) -> list[Scan]:
        """The scans of this part, in their order.

        Largest first, each scan goes to the part that has the fewest bytes so far. That depends on ids and sizes alone,
        so every job finds the same parts, and each scan is in just one.
        """
        if self.of == 1:
            return list(scans)
        sizes = _sizes(scans)
        parts = [(0.0, 0, part) for part in range(1, self.of + 1)]  # bytes, scans, which
        mine = set()
        for scan in sorted(scans, key=lambda scan: (-sizes[scan.id], scan.id)):
            filled, count, part = heapq.heappop(parts)
            heapq.heappush(parts, (filled + sizes[scan.id], count + 1, part))
            if part == self.number:
                mine.add(scan.id)
        return [scan for scan in scans if scan.id in mine]


def _sizes(scans: Sequence[Scan]) -> dict[str, float]:
    """Bytes of each scan by its id; scans of one file (frames, arrays, regions) have equal parts of it."""
    sharing = Counter(frozenset(source.path for source in scan.sources) for scan in scans)
    return {scan.id: _bytes(scan) / sharing[frozenset(source.path for source in scan.sources)] for scan in scans}


def _bytes(scan: Scan) -> int:
    try:
        return signature(scan.sources)["bytes"] or 0  # a web server need not say
    except (OSError, FeatliftError):
        return 0  # reading it will say what is wrong

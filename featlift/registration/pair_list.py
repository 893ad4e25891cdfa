"""Which scans are registered with which: a CSV of pairs, ``fixed,moving[,split]``."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from featlift.errors import InputError, OptionError, VolumeError
from featlift.tables import read_table
from featlift.volumes.scan import known_id

_WANTED = "pairs are a CSV with fixed,moving and perhaps split"


@dataclass(frozen=True)
class CasePair:
    """Two case ids.

    Attributes:
        fixed: of the scan that stays.
        moving: of the scan that is brought onto it.
        split: that the CSV gives it; empty without.
    """

    fixed: str
    moving: str
    split: str = ""

    @property
    def id(self) -> str:
        """What a pair is called, also its folder: ``fixed--moving``."""
        return f"{self.fixed}--{self.moving}"


def read_pairs(path: str | Path, fixed: Collection[str], moving: Collection[str]) -> list[CasePair]:
    """The pairs of a CSV, in its order.

    Args:
        path: of it. Ids may have the extension of their scan.
        fixed: ids of the scans that may stay.
        moving: ids of those that may be brought onto them; the same object where a pair is of one cohort.

    Raises:
        InputError: no such file, no pair in it, or an id that is not there.
        OptionError: a scan with itself, or a pair twice.
    """
    path = Path(path)
    table = read_table(path, ("fixed", "moving", "split"), _WANTED)
    if missing := [name for name in ("fixed", "moving") if name not in table.names]:
        raise InputError(f"{path}: no column {missing[0]!r}; {_WANTED}")
    if not table.rows:
        raise InputError(f"{path}: it holds no pair; {_WANTED}")
    pairs: dict[str, CasePair] = {}
    for line, row in zip(table.lines, table.dicts(), strict=True):
        where = f"{path.name}, line {line}"
        pair = CasePair(known_id(row["fixed"], fixed), known_id(row["moving"], moving), row.get("split", ""))
        for name, ids in ((pair.fixed, fixed), (pair.moving, moving)):
            if name not in ids:
                raise InputError(
                    f"{where}: there is no case {name!r}; the first of {len(ids)} is {next(iter(ids), None)}"
                )
        if pair.fixed == pair.moving and fixed is moving:
            raise OptionError(f"{where}: {pair.fixed} is paired with itself: give two scans")
        if pair.id in pairs:
            raise OptionError(f"{where}: the pair {pair.id} stands there twice: leave one out")
        pairs[pair.id] = pair
    return list(pairs.values())


def of_split(pairs: list[CasePair], split: str | None) -> list[CasePair]:
    """The pairs of a split; all without one.

    Raises:
        OptionError: none is in it.
    """
    found = [pair for pair in pairs if split is None or pair.split == split]
    if not found:
        known = ", ".join(sorted({pair.split for pair in pairs if pair.split})) or "no split at all"
        raise OptionError(f"--split {split}: no pair is in it; the pairs have {known}")
    return found


@contextmanager
def of_pair(pair_id: str) -> Iterator[None]:
    """Errors begin with the id of the pair that they are of."""
    try:
        yield
    except (InputError, VolumeError) as error:
        raise type(error)(f"{pair_id}: {error}") from error

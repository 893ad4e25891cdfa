"""The list of pairs that belong together: a CSV with ``fixed,moving`` and perhaps ``split``."""

from __future__ import annotations

from pathlib import Path

from featlift.errors import InputError
from featlift.tables import read_table
from featlift.training.splits import TEST, TRAIN, VAL

FIXED, MOVING, SPLIT = "fixed", "moving", "split"
_WANTED = "pairs are a CSV with fixed,moving and perhaps split"


def read_pairs(path: str | Path, split: str | None = None) -> list[tuple[str, str]]:
    """The pairs of a CSV, each as the ids of its fixed and of its moving scan.

    Args:
        path: of the CSV.
        split: only the pairs of this split; None takes all.

    Raises:
        InputError: no such file, a column that is missing, an empty id, a scan paired with itself, a pair that stands
            twice, or a split that is none.
    """
    table = read_table(Path(path), (FIXED, MOVING, SPLIT), _WANTED)
    if not {FIXED, MOVING} <= set(table.names):
        raise InputError(f"{path}: it has the columns {', '.join(table.names)}; {_WANTED}")
    if split is not None and SPLIT not in table.names:
        raise InputError(f"{path}: no column split: it says train, val or test of each pair")
    found: dict[tuple[str, str], str] = {}
    for line, row in zip(table.lines, table.dicts(), strict=True):
        pair, of = (row[FIXED].strip(), row[MOVING].strip()), row.get(SPLIT, "").strip()
        where = f"{path}, line {line}"
        if not all(pair) or pair[0] == pair[1]:
            raise InputError(f"{where}: {pair[0] or 'nothing'} with {pair[1] or 'nothing'}: give two scans")
        if pair in found:
            raise InputError(f"{where}: {pair[0]} with {pair[1]} stands twice")
        if of not in ("", TRAIN, VAL, TEST):
            raise InputError(f"{where}: the split is {of!r}: give {TRAIN}, {VAL} or {TEST}")
        found[pair] = of
    return [pair for pair, of in found.items() if split in (None, of)]

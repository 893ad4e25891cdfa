"""Seconds and memory of rows of `benchmarks.registration`, and MIND here against convexAdam's own; on an idle machine.

    python -m benchmarks.registration_speed DATA --row mind+lite0 --out OUT [--stores DIR] [--networks DIR]
    python -m benchmarks.registration_speed DATA --package DIR

The first times a row that is done, with what it chose, on the first seven pairs, features and all, and adds the median
and the peak memory of the process to its JSON. The second runs both by turns at the same settings.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import machine
from benchmarks.registration import DEFAULTS, SEARCH, Places, Scans, Setting, pairs_of, prepared
from featlift.processes import peak_memory

_PAIRS = 7


def seconds_of(row: str, scans: Scans, setting: Setting, where: Places) -> float:
    """Of one pair."""
    start = time.perf_counter()
    prepared(row, scans, where)(setting)
    return time.perf_counter() - start


def add_to(path: Path, scans: list[Scans], where: Places) -> None:
    """Add ``seconds`` and ``peak_mb`` to the JSON of a row."""
    found = json.loads(path.read_text())
    taken = [seconds_of(path.stem, pair, found["chosen"], where) for pair in scans]
    found |= {"seconds": float(np.median(taken)), "peak_mb": (peak_memory() or 0) / 1e6}
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{path.stem}: {found['seconds']:.2f} s, peak {found['peak_mb']:.0f} MB")


def race(scans: list[Scans]) -> str:
    """A table of medians over the pairs, at the defaults and at three settings of the search."""
    lines = ["| setting | package s | here s | package / here |", "|---|---|---|---|"]
    nowhere = Places(Path(), Path())
    for setting in (DEFAULTS, *SEARCH[2::4]):
        taken: dict[str, list[float]] = {"package": [], "mind": []}
        for pair, row in itertools.product(scans, taken):
            taken[row].append(seconds_of(row, pair, setting, nowhere))
        theirs, ours = (float(np.median(each)) for each in taken.values())
        name = f"cell {setting['cell']}, reach {setting['reach']}"
        lines.append(f"| {name} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Time one row, or the package against MIND here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--row")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--stores", type=Path, default=Path())
    parser.add_argument("--networks", type=Path, default=Path())
    parser.add_argument("--package", type=Path)
    options = parser.parse_args()
    if options.package:
        sys.path.append(str(options.package))
    scans = [Scans.of(options.data, ids) for ids in pairs_of(options.data, "val")[:_PAIRS]]
    if options.row:
        add_to(options.out / f"{options.row}.json", scans, Places(options.stores, options.networks))
    else:
        print(f"{machine('cpu')}\n\n{race(scans)}")


if __name__ == "__main__":
    main()

"""Regions of interest: a case for each lesion of a mask, or for each point of a list."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from featlift.errors import InputError, VolumeError
from featlift.tables import read_table
from featlift.volumes.discovery.pairing import pair
from featlift.volumes.opening import read_source
from featlift.volumes.regions import centres_of_lesions
from featlift.volumes.scan import Scan, known_id
from featlift.volumes.source import Skipped, as_mask

Point = tuple[float, float, float]


def regions_of_interest(scans: list[Scan], csv_of_points: Path | None, skipped: list[Skipped]) -> Iterator[Scan]:
    """A scan for each of its regions, called ``<id>__roi<n>``, counted from 1.

    Args:
        scans: to look for regions in.
        csv_of_points: a CSV with a row for each point, id, x, y, z (LPS mm); None takes the connected pieces of each
            scan's mask.
        skipped: is told of scans without a region.

    Raises:
        InputError: the CSV or a mask cannot be read.
    """
    points = None if csv_of_points is None else _points(csv_of_points, scans)
    for scan in scans:
        if points is not None:
            centres, lack = points[scan.id], "no point is given for it"
        elif scan.mask:
            centres, lack = _lesions(scan), "its mask is empty"
        else:
            centres, lack = [], "it has no mask"
        count = 0
        for count, centre in enumerate(centres, start=1):
            yield replace(scan, id=f"{scan.id}__roi{count}", centre=centre)
        if not count:
            skipped.append(Skipped(scan.name, lack))


def _lesions(scan: Scan) -> list[Point]:
    assert scan.mask is not None
    try:
        return centres_of_lesions(read_source(as_mask(scan.mask)))
    except VolumeError as error:
        raise InputError(f"the mask of {scan.id}: {error}") from error


def _points(path: Path, scans: list[Scan]) -> dict[str, list[Point]]:
    given = defaultdict(list)
    table = read_table(path, ("id", *"xyz"), "give masks, or a CSV with id, x, y, z (LPS mm)", f"--roi {path}")
    if missing := next((name for name in ("id", *"xyz") if name not in table.names), None):
        raise InputError(f"{path}: no column {missing!r}; give id, x, y, z (LPS mm)")
    ids = {scan.id for scan in scans}
    for line, row in zip(table.lines, table.dicts(), strict=True):
        given[known_id(row["id"].strip(), ids)].append(_point(row, f"{path}, line {line}"))
    pairs = pair([scan.id for scan in scans], given)
    if unknown := [name for name in given if not any(points is given[name] for points in pairs.values())]:
        raise InputError(f"{path}: no scan of the id {unknown[0]}, such as {scans[0].id}")
    return defaultdict(list, pairs)


def _point(row: dict[str, str], where: str) -> Point:
    x, y, z = (row[axis] for axis in "xyz")
    try:
        point = float(x), float(y), float(z)
    except (ValueError, TypeError):
        point = (math.nan,) * 3
    if not all(map(math.isfinite, point)):
        raise InputError(f"{where}: {x}, {y}, {z} is no place; give x, y, z in LPS mm")
    return point

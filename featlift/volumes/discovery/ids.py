"""Case ids: one for each scan, fit for a folder, and what to say of those that are not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from featlift.errors import InputError
from featlift.names import look_alikes
from featlift.remote import Remote
from featlift.volumes.scan import Scan
from featlift.volumes.source import Skipped, Source

_LONGEST_ID = 200  # bytes; a staged folder adds host, process and a random part, and file systems stop at 255


def unique(scans: Iterable[Scan], refused: list[Skipped] | None, clashing: list[Skipped] | None) -> list[Scan]:
    """Ordered by id; the same scan found twice counts once."""
    by_id: dict[str, Scan] = {}
    for scan in scans:
        if complaint := _unfit(scan):
            told = refused
        elif complaint := _clash(scan, by_id.get(scan.id, scan)):
            told = clashing
        else:
            by_id.setdefault(scan.id, scan)
            continue
        if told is None:
            raise InputError(complaint)
        told.append(Skipped(scan.name, complaint))
    return [by_id[case_id] for case_id in sorted(by_id)]


def alike(scans: list[Scan]) -> list[str]:
    """What to say of ids that some disks do not tell apart."""
    groups = look_alikes(scan.id for scan in scans)
    if not groups:
        return []
    return [
        f"{sum(map(len, groups))} case ids differ from another only in case or Unicode form (such as "
        f"{' and '.join(groups[0])}): a store on a disk that ignores this holds only one of them; rename the others"
    ]


def _unfit(scan: Scan) -> str:
    """Why the id of a scan cannot be one, or nothing."""
    if scan.id == "zarr.json":
        return f"{scan.name}: zarr.json is a name that Zarr keeps to itself; rename the scan"
    if not scan.name.isprintable():
        return f"{scan.name!r}: a name that cannot be printed, or is not in UTF-8; rename the scan"
    if "/" in scan.id or scan.id.startswith(".") or not scan.id.isprintable():
        return f"{scan.name}: id {scan.id!r} cannot be the name of a folder"
    if len(scan.id.encode()) > _LONGEST_ID:
        return f"{scan.name}: its case id would be longer than {_LONGEST_ID} bytes; shorten its path"
    return ""


def _clash(scan: Scan, other: Scan) -> str:
    """Why a scan cannot have the id that `other` has, or nothing."""
    if _place(other) != _place(scan):
        return (
            f"two scans with the id {scan.id}: {other.sources[0].path} and {scan.sources[0].path}; "
            "rename or exclude one"
        )
    if (other.labels, other.mask) != (scan.labels, scan.mask):
        return f"{scan.id} stands twice in the inputs, with other labels or another mask: remove one"
    return ""


def _place(scan: Scan) -> tuple[object, ...]:
    return (*(replace(source, path=real_path(source)) for source in scan.sources), scan.centre)


def real_path(source: Source) -> Path | Remote:
    """Where a source is when links are followed."""
    if isinstance(source.path, Remote):
        return source.path
    return Path(os.path.realpath(source.path))  # not Path's, which raises for a link to itself

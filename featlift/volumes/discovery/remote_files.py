"""From a URL to the scans behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from featlift.errors import InputError
from featlift.remote import Remote, Stamp
from featlift.volumes.discovery.files import in_dicom, in_file, is_dicom
from featlift.volumes.fetching import fetched
from featlift.volumes.formats import suffix_of
from featlift.volumes.opening import error_context
from featlift.volumes.scan import Scan, Selection
from featlift.volumes.source import Skipped, Source


def scans_behind(remote: Remote, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    """The scans behind a URL, a file or a prefix with all that is below it, as `scans_in` finds them on a disk.

    Names, sizes and times come from a listing. What only a look inside tells is fetched for it, .zip and .npz, and of
    every file that could be DICOM the beginning is read.

    Args:
        remote: the URL.
        selection: which of its files are scans.
        skipped: is told of what is none.

    Raises:
        InputError: nothing is there.
    """
    with error_context(remote):
        files = remote.files()
    if not files:
        raise InputError(f"{remote}: no such file, and none below it")
    if "" in files:
        yield from _in_one(replace(remote, stamp=files[""]), remote.name, selection, skipped)
        return
    if suffix_of(remote) == ".zarr":
        yield from _in_one(replace(remote, stamp=_joined(files.values())), remote.name, selection, skipped)
        return
    dicom = []
    for name, stamp in _scans_and_others(files):
        each = replace(remote / name, stamp=stamp)
        if not selection.takes(name):
            continue
        if suffix_of(each) or each.suffix.lower() == ".zip":
            yield from _in_one(each, name, selection, skipped)
        elif is_dicom(each):
            dicom.append(name)
    for scan in in_dicom(remote, "", dicom, selection, skipped):
        members = scan.sources[0].members
        yield _from(replace(remote, stamp=_joined(files[name] for name in members)), scan)


def _scans_and_others(files: dict[str, Stamp]) -> Iterator[tuple[str, Stamp]]:
    """Every file, and every folder that is one array, by its path; hidden ones left out."""
    arrays: dict[str, list[Stamp]] = {}
    for name, stamp in sorted(files.items()):
        parts = name.split("/")
        array = next((number for number, part in enumerate(parts[:-1], 1) if suffix_of(Path(part))), len(parts))
        if any(part.startswith(".") for part in parts[:array]):
            continue
        if array == len(parts):
            yield name, stamp
        else:
            arrays.setdefault("/".join(parts[:array]), []).append(stamp)
    for name, stamps in arrays.items():
        yield name, _joined(stamps)


def _in_one(remote: Remote, name: str, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    """The scans of one file, or of one Zarr array."""
    if remote.suffix.lower() not in (".zip", ".npz"):
        yield from in_file(remote, name, selection, skipped)
        return
    with error_context(remote), fetched([Source(remote)]) as (copy,):
        scans = list(in_file(copy.path, name, selection, skipped))
    for scan in scans:
        yield _from(remote, scan, copy.path.name)


def _from(remote: Remote, scan: Scan, copied_as: str = "") -> Scan:
    """A scan that was found in a copy, or without its stamp."""

    def there(source: Source) -> Source:
        refusal = source.refusal.replace(copied_as, remote.name) if copied_as else source.refusal
        return replace(source, path=remote, refusal=refusal)

    return replace(scan, sources=tuple(map(there, scan.sources)))


def _joined(stamps: Iterable[Stamp]) -> Stamp:
    return Stamp.joined(list(stamps))

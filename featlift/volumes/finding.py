"""Find the scans among the inputs, and give each its case id."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

from featlift.errors import InputError
from featlift.volumes.reading import suffix_of

_LONGEST_ID = 200  # bytes; a staged folder adds host, process and a random part, and file systems stop at 255


@dataclass(frozen=True)
class Scan:
    """One scan on disk.

    Attributes:
        id: case id: the path below the input folder, "/" as "__", extension dropped.
        path: where the file is.
        name: the path below the input folder, for people and for the store.
    """

    id: str
    path: Path
    name: str


def find_scans(inputs: Sequence[str | Path], glob: str | None = None, exclude: Sequence[str] = ()) -> list[Scan]:
    """Find every scan in files and folders (recursively), ordered by case id.

    Args:
        inputs: files and folders.
        glob: only paths below the input folder that match this pattern, such as ``*_T1.nii.gz``.
        exclude: patterns of paths to leave out, such as ``*_label.nrrd``.

    Raises:
        InputError: an input that does not exist or cannot be searched, no scan at all, an id that is too long, or two
            scans with one id.
    """
    found: dict[str, Scan] = {}
    for scan in (scan for given in inputs for scan in _scans_of(Path(given))):
        if (glob and not _matches(scan.name, glob)) or any(_matches(scan.name, pattern) for pattern in exclude):
            continue
        if len(scan.id.encode()) > _LONGEST_ID:
            raise InputError(f"{scan.path}: its case id would be longer than {_LONGEST_ID} bytes; shorten its path")
        other = found.setdefault(scan.id, scan)
        if other.path.resolve() != scan.path.resolve():
            raise InputError(f"two scans with the id {scan.id}: {other.path} and {scan.path}; rename or exclude one")
    if not found:
        filters = " that match --glob and --exclude" if glob or exclude else ""
        raise InputError(f"no scans{filters} in {', '.join(map(str, inputs))} (.nii, .nii.gz, .nrrd, .mha)")
    return [found[id_] for id_ in sorted(found)]


def _scans_of(given: Path) -> Iterator[Scan]:
    if os.path.isfile(given):  # not Path's, which raise where there is no permission
        yield _scan(given, given.name)
    elif os.path.isdir(given):
        for folder, folders, files in os.walk(given, onerror=_refuse):  # not into links, so no loops
            folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".zarr"))
            for file in sorted(files):
                path = Path(folder, file)
                if suffix_of(path) and not file.startswith("."):
                    yield _scan(path, path.relative_to(given).as_posix())
    else:
        raise InputError(f"{given}: no such file or folder, or none that may be seen")


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: cannot be searched for scans ({error.strerror})")


def _scan(path: Path, name: str) -> Scan:
    suffix = suffix_of(path) or path.suffix
    case_id = name[: len(name) - len(suffix)].replace("/", "__").lstrip(".") or "scan"
    if case_id == "zarr.json":
        raise InputError(f"{name}: zarr.json is a name that Zarr keeps to itself; rename the scan")
    return Scan(case_id, path, name)


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern)

"""`source_of`: the one volume that a path or URL means."""

from __future__ import annotations

import os
from pathlib import Path

from featlift.errors import InputError
from featlift.remote import Remote
from featlift.volumes.discovery.files import in_dicom, in_file, is_dicom, name_of, walk
from featlift.volumes.discovery.remote_files import scans_behind
from featlift.volumes.formats import suffix_of
from featlift.volumes.scan import Selection
from featlift.volumes.source import Skipped, Source, place_and_key


def source_of(path: str | Path | Remote) -> Source:
    """The one volume at a path or URL, which may end in ``::key``.

    Raises:
        InputError: a folder or .zip that holds no DICOM series, or several.
    """
    path, key = place_and_key(path)
    there = isinstance(path, Remote) or os.path.exists(path)  # not Path's, which raises for names that are too long
    if suffix_of(path) is None and there:
        return _one_series(path)
    return Source(path, key or None)


def _one_series(root: Path | Remote) -> Source:
    """The only DICOM series in a folder, .zip or DICOM file, or behind a URL.

    Raises:
        InputError: there is none, or several.
    """
    skipped: list[Skipped] = []
    selection = Selection()
    if isinstance(root, Remote):
        found = [scan for scan in scans_behind(root, selection, skipped) if scan.sources[0].members]
    elif root.is_dir():
        members = [name for name in walk(root) if suffix_of(Path(name)) is None and is_dicom(root / name)]
        found = list(in_dicom(root, "", members, selection, skipped))
    elif root.suffix.lower() == ".zip":
        from featlift.volumes.dicom import dicom_in_zip

        found = list(in_dicom(root, "", dicom_in_zip(root), selection, skipped))
    else:
        found = list(in_file(root, root.name, selection, skipped))
    if len(found) != 1:
        several = f"{len(found)} DICOM series, give the folder of one: {', '.join(scan.name for scan in found[:3])}"
        why = f" ({skipped[0].name}: {skipped[0].reason})" if skipped else ""
        where = root if isinstance(root, Remote) else name_of(root)
        raise InputError(f"{where}: {several if found else f'no DICOM series that is a volume{why}'}")
    return found[0].sources[0]

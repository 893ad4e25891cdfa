"""A BIDS folder: its scans by subject and session, with what participants.tsv says of them.

https://bids-specification.readthedocs.io: names are ``sub-<label>[_ses-<label>][_<entity>-<label>...]_<suffix>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featlift.errors import InputError
from featlift.tables import read_table
from featlift.volumes.discovery.files import walk, with_frames, with_key
from featlift.volumes.formats import suffix_of
from featlift.volumes.scan import Scan, Selection, case_id_of
from featlift.volumes.source import Skipped, Source

_DESCRIPTION, _PARTICIPANTS, _WHO = "dataset_description.json", "participants.tsv", "participant_id"
_COLUMNS = {"ses": "session", "acq": "acquisition", "run": "run"}
_SUBJECT = re.compile(r"sub-[A-Za-z0-9+]+")
_MISSING = ("n/a", "")


def is_bids(folder: Path) -> bool:
    """Whether a folder says that it is BIDS."""
    try:
        return "BIDSVersion" in json.loads((folder / _DESCRIPTION).read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def in_bids(folder: Path, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    """The scans of a BIDS folder, called after their files, which say whose they are.

    Columns are ``patient`` (the subject), ``session``, ``acquisition``, ``run`` and ``suffix`` as far as the name has
    them, and those of participants.tsv. Files of no subject, as those in derivatives/, and files that are no images are
    left out.

    Args:
        folder: with dataset_description.json.
        selection: which files are scans.
        skipped: is told of images of no subject.

    Raises:
        InputError: participants.tsv cannot be read.
    """
    participants = _participants(folder / _PARTICIPANTS)
    elsewhere = 0
    for name in walk(folder):
        first, _, file = name.partition("/")[0], *name.rpartition("/")[1:]
        if suffix_of(Path(name)) is None or not selection.takes(name):
            continue
        if not _SUBJECT.fullmatch(first) or not file.startswith(f"{first}_"):
            elsewhere += 1
            continue
        labels = participants.get(first, {}) | _entities(file)
        scan = Scan(case_id_of(file), file, (with_key(Source(folder / name), selection.key),), labels)
        yield from with_frames(scan, selection.frame)
    if elsewhere:
        skipped.append(
            Skipped(folder.name, f"{elsewhere} images that are of no subject by their place, as derivatives")
        )


def _entities(file: str) -> dict[str, Any]:
    """What the name of a file says."""
    *entities, suffix = case_id_of(file).split("_")
    found = dict(entity.split("-", 1) for entity in entities if "-" in entity)
    columns = {column: found[key] for key, column in _COLUMNS.items() if key in found}
    return {"patient": f"sub-{found['sub']}", **columns, "suffix": suffix}


def _participants(path: Path) -> dict[str, dict[str, Any]]:
    """The columns of participants.tsv by subject; "n/a" is no value."""
    if not path.is_file():
        return {}
    table = read_table(path, [_WHO], "participants.tsv of BIDS is a table with participant_id")
    if _WHO not in table.names:
        raise InputError(f"{path}: no column {_WHO}; it has {', '.join(table.names)}")
    rows = [["" if value.strip() in _MISSING else value for value in row] for row in table.rows]
    typed = type(table)(table.names, rows, table.lines).typed([_WHO]).to_pylist()
    return {row.pop(_WHO): {name: value for name, value in row.items() if value not in (None, "")} for row in typed}

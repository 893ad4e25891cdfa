"""A manifest: a CSV with a row for each case, ``id,path[,mask,label,split,...]``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from featlift.errors import FeatliftError, InputError
from featlift.remote import Remote, parse_location
from featlift.tables import read_table
from featlift.volumes.discovery.files import with_frames, with_key
from featlift.volumes.discovery.mask_labels import mask_at
from featlift.volumes.discovery.series import source_of
from featlift.volumes.fetching import fetched
from featlift.volumes.opening import error_context
from featlift.volumes.scan import Scan, Selection, case_id_of, id_of_array
from featlift.volumes.source import Source

_PATH, _ID, _MASK = "path", "id", "mask"


def read_manifest(path: Path | Remote, selection: Selection) -> Iterator[Scan]:
    """The scans of a manifest. Paths are relative to its folder, or URLs; further columns become labels.

    Columns named by `selection.channels` hold the images that are the channels of one volume, such as ``t1,t2,flair``;
    without them the column ``path`` holds the scan.

    A scan that is missing or no volume is a scan all the same, which cannot be read: one row does not stop the others.

    Raises:
        InputError: it cannot be read, or lacks a column, a path or a mask that it names.
    """
    images = [name for name in selection.channels if not name.isdecimal()] or [_PATH]
    columns = dict.fromkeys([_ID, _MASK, *images])
    with error_context(path), fetched([Source(path)]) as (copy,):
        assert isinstance(copy.path, Path)
        table = read_table(copy.path, columns, "a manifest is a CSV with id,path", path)
    if not table.rows or len(set(table.names)) < len(table.names):
        raise InputError(f"{path}: give a header such as id,path, no name twice, and a line for each scan")
    for name in images:
        if name not in table.names:
            raise InputError(f"{path.name}: no column {name!r}; it has {', '.join(table.names)}")
    for number, row in zip(table.lines, table.typed(columns).to_pylist(), strict=True):
        if not all(row[name] and row[name].isprintable() for name in images):
            raise InputError(f"{path.name}, line {number}: no {' or '.join(images)}")
        name, _, key = row[images[0]].partition("::")
        place = parse_location(name)
        if isinstance(place, Remote) or place.is_absolute():
            name = place.name  # where it lies is nobody else's business
        if not selection.takes(name):
            continue
        labels = {key: value for key, value in row.items() if key not in (_ID, _MASK, _PATH, *images)}
        mask = _mask(path, row[_MASK], number) if row.get(_MASK) else None
        sources = tuple(with_key(_source(path, row[image]), selection.key) for image in images)
        file = Path(name).name
        case_id = row.get(_ID) or (id_of_array(file, key) if key else case_id_of(file))
        scan = Scan(case_id, name, sources, labels, mask)
        yield from with_frames(scan, selection.frame) if len(sources) == 1 else [scan]


def _source(manifest: Path | Remote, text: str) -> Source:
    text, _, key = text.partition("::")
    place = parse_location(text)
    if isinstance(place, Path) and not place.is_absolute():
        place = manifest.parent / text
    try:
        source = source_of(place)
    except InputError as error:
        source = Source(place, refusal=str(error))  # one row does not stop the others
    except FeatliftError:
        source = Source(place)  # a server that does not answer now may answer when it is read
    return replace(source, key=key or source.key)


def _mask(manifest: Path | Remote, text: str, number: int) -> Source:
    source = _source(manifest, text)
    path = source.path
    with error_context(path):
        exists = bool(path.files()) if isinstance(path, Remote) else os.path.exists(path)  # not Path's, which may raise
    if not exists:
        shown = path if isinstance(path, Remote) else text
        raise InputError(f"{manifest.name}, line {number}: no such file: {shown}")
    own = mask_at(path) if isinstance(path, Path) and not source.key else None
    return own or source

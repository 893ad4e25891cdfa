"""From one input, a file, a folder, a manifest or a URL, to the scans in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from featlift.errors import InputError
from featlift.remote import Remote, parse_location
from featlift.volumes.discovery.bids import in_bids, is_bids
from featlift.volumes.discovery.files import in_dicom, in_file, is_dicom, walk, with_frames
from featlift.volumes.discovery.manifest import read_manifest
from featlift.volumes.discovery.remote_files import scans_behind
from featlift.volumes.formats import FORMATS, suffix_of
from featlift.volumes.scan import Scan, Selection, id_of_array
from featlift.volumes.source import Skipped, Source, place_and_key

_KINDS = 3  # of files, named


def scans_in(given: str | Path | Remote, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    """The scans of one input: a file, ``file::array``, a .zip, a manifest, or a folder with all that is below it.

    Args:
        given: the input, a path or a URL.
        selection: which of its files are scans.
        skipped: is told of what is none.

    Raises:
        InputError: it does not exist or cannot be searched.
    """
    path, key = place_and_key(given)
    if isinstance(path, Remote):
        yield from _in_remote(path, key, selection, skipped)
        return
    is_folder = os.path.isdir(path)  # not Path's, which raises where there is no permission
    if is_folder and suffix_of(path) is None:
        if key:
            raise InputError(f"{given}: {path.name} is a folder, not a file of arrays: give --key for those in it")
        yield from (in_bids if is_bids(path) else _in_folder)(path, selection, skipped)
    elif not is_folder and not os.path.isfile(path):
        raise InputError(f"{given}: no such file or folder, or none that may be seen")
    elif path.suffix.lower() == ".csv":
        yield from read_manifest(path, selection)
    elif key:
        yield from _one_array(path, key, selection)
    else:
        yield from in_file(path, path.name, selection, skipped)


def is_searched(given: str | Path | Remote) -> bool:
    """Whether an input is a folder that is searched for scans, or what is below a URL; no file, no manifest."""
    path, _ = place_and_key(given)
    if suffix_of(path) is not None:
        return False
    return path.suffix.lower() not in (".csv", ".zip") if isinstance(path, Remote) else os.path.isdir(path)


def _in_remote(remote: Remote, key: str, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    if remote.suffix.lower() == ".csv":
        yield from read_manifest(remote, selection)
    elif key:
        yield from _one_array(remote, key, selection)
    else:
        yield from scans_behind(remote, selection, skipped)


def _one_array(path: Path | Remote, key: str, selection: Selection) -> Iterator[Scan]:
    yield from with_frames(Scan(id_of_array(path.name, key), path.name, (Source(path, key),)), selection.frame)


def _in_folder(folder: Path, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    dicom = []
    for name in walk(folder):
        path = folder / name
        if not selection.takes(name):
            continue
        if suffix_of(path) or path.suffix.lower() == ".zip":
            yield from in_file(path, name, selection, skipped)
        elif is_dicom(path):
            dicom.append(name)
    yield from in_dicom(folder, "", dicom, selection, skipped)


def _kinds_in(folder: Path | Remote) -> str:
    """The kinds of files in a folder of this machine, by their suffixes, such as ``12 .png and 1 .txt``."""
    if isinstance(folder, Remote) or not os.path.isdir(folder):
        return ""
    kinds = (suffix_of(Path(name)) or Path(name).suffix.lower() or "without a suffix" for name in walk(folder))
    return " and ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common(_KINDS)) or "no file"


def nothing_found(inputs: Sequence[str | Path | Remote], what: str, skipped: list[Skipped]) -> str:
    """What to say of inputs that hold none of what is looked for."""
    why = f"; skipped {skipped[0].name}: {skipped[0].reason}" if skipped else ""
    more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    places = [parse_location(given) for given in inputs]
    held = "" if skipped else "".join(f"; it holds {kinds}" for place in places[:1] if (kinds := _kinds_in(place)))
    return f"no {what} in {', '.join(map(str, places))} ({', '.join(FORMATS)}, DICOM){why}{more}{held}"

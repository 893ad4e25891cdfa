"""From one input, a file or a folder, to the scans in it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from featlift.errors import FeatliftError, InputError
from featlift.remote import Remote
from featlift.volumes.formats import FORMATS, suffix_of
from featlift.volumes.formats.medmnist import is_medmnist, medmnist_volumes
from featlift.volumes.reading import open_image, place_and_key, told_of
from featlift.volumes.scan import Frame, Scan, Selection, case_id_of, id_of_array
from featlift.volumes.source import Skipped, Source

_DICOM_START = 132  # bytes that tell a DICOM file
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
        yield from _in_folder(path, selection, skipped)
    elif not is_folder and not os.path.isfile(path):
        raise InputError(f"{given}: no such file or folder, or none that may be seen")
    elif path.suffix.lower() == ".csv":
        from featlift.volumes.manifest import read_manifest

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
        from featlift.volumes.manifest import read_manifest

        yield from read_manifest(remote, selection)
    elif key:
        yield from _one_array(remote, key, selection)
    else:
        from featlift.volumes.listing import scans_behind

        yield from scans_behind(remote, selection, skipped)


def _one_array(path: Path | Remote, key: str, selection: Selection) -> Iterator[Scan]:
    yield from with_frames(Scan(id_of_array(path.name, key), path.name, (Source(path, key),)), selection.frame)


def with_key(source: Source, key: str | None) -> Source:
    """The source, to be read at this key if its file holds several arrays and none of them is chosen."""
    suffix = suffix_of(source.path)
    return replace(source, key=source.key or key) if suffix and FORMATS[suffix].has_arrays else source


def with_frames(scan: Scan, frame: Frame) -> Iterator[Scan]:
    """The scan with one of its frames, or one scan for each of them."""
    source = scan.sources[0]
    if frame != "all":
        yield replace(scan, sources=(replace(source, frame=frame),))
        return
    try:
        frames = open_image(source).frames
    except FeatliftError:
        frames = 1  # reading it will say what is wrong
    for number in range(frames):
        one = replace(scan, id=f"{scan.id}__frame{number}", sources=(replace(source, frame=number),))
        yield scan if frames == 1 else one


def _in_folder(folder: Path, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    dicom = []
    for name in _walk(folder):
        path = folder / name
        if not selection.takes(name):
            continue
        if suffix_of(path) or path.suffix.lower() == ".zip":
            yield from in_file(path, name, selection, skipped)
        elif is_dicom(path):
            dicom.append(name)
    yield from in_dicom(folder, "", dicom, selection, skipped)


def in_file(path: Path | Remote, name: str, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    """The scans of one file called `name`; a .zip or .npz must be on this machine."""
    suffix = suffix_of(path)
    if isinstance(path, Path) and path.suffix.lower() == ".zip":
        from featlift.volumes.dicom import dicom_in_zip

        try:
            members = dicom_in_zip(path)
        except InputError:
            yield Scan(case_id_of(name), name, (Source(path),))  # reading it will say what is wrong
            return
        if not members:
            skipped.append(Skipped(name, "a .zip without DICOM files"))
        yield from in_dicom(path, name[: -len(".zip")], members, selection, skipped)
    elif suffix is None and is_dicom(path):
        yield from in_dicom(path.parent, "", [path.name], selection, skipped)
    elif suffix == ".zarr" and _is_featlift_store(path):
        skipped.append(Skipped(name, "a store of featlift"))
    elif isinstance(path, Path) and suffix == ".npz" and selection.key is None and is_medmnist(path):
        with told_of(path):
            volumes = list(medmnist_volumes(path))
        for split, number, label in volumes:
            source = Source(path, f"{split}_images", number)
            labels = {"split": split, "label": label}
            yield Scan(f"{case_id_of(name)}__{split}__{number}", name, (source,), labels)
    else:
        source = with_key(Source(path), selection.key)
        yield from with_frames(Scan(case_id_of(name), name, (source,)), selection.frame)


def in_dicom(
    root: Path | Remote, name: str, members: Sequence[str], selection: Selection, skipped: list[Skipped]
) -> Iterator[Scan]:
    """The series of DICOM files below a folder, or in a .zip called `name`."""
    if not members:
        return
    from featlift.volumes.dicom import find_series

    series, others = find_series(root, members)
    skipped.extend(replace(each, name=f"{name}/{each.name}".strip("/")) for each in others)
    for each in series:
        where = "/".join(part for part in (name, each.folder) if part) or _name_of(root)
        case_id = f"{where.replace('/', '__').lstrip('.')}__{each.digest}"
        scan = Scan(case_id, where, (Source(root, members=each.members),))
        yield from with_frames(scan, selection.frame)


def _name_of(root: Path | Remote) -> str:
    return root.name if isinstance(root, Remote) else root.resolve().name


def one_series(root: Path | Remote) -> Source:
    """The only DICOM series in a folder, .zip or DICOM file, or behind a URL.

    Raises:
        InputError: there is none, or several.
    """
    skipped: list[Skipped] = []
    selection = Selection()
    if isinstance(root, Remote):
        found = [scan for scan in _in_remote(root, "", selection, skipped) if scan.sources[0].members]
    elif root.is_dir():
        members = [name for name in _walk(root) if suffix_of(Path(name)) is None and is_dicom(root / name)]
        found = list(in_dicom(root, "", members, selection, skipped))
    elif root.suffix.lower() == ".zip":
        from featlift.volumes.dicom import dicom_in_zip

        found = list(in_dicom(root, "", dicom_in_zip(root), selection, skipped))
    else:
        found = list(in_file(root, root.name, selection, skipped))
    if len(found) != 1:
        several = f"{len(found)} DICOM series, give the folder of one: {', '.join(scan.name for scan in found[:3])}"
        why = f" ({skipped[0].name}: {skipped[0].reason})" if skipped else ""
        where = root if isinstance(root, Remote) else _name_of(root)
        raise InputError(f"{where}: {several if found else f'no DICOM series that is a volume{why}'}")
    return found[0].sources[0]


def _walk(root: Path) -> Iterator[str]:
    """Every file below a folder, and every folder that is one array, by its path below."""
    for folder, folders, files in os.walk(root, onerror=_refuse):  # not into links, so no loops
        arrays = [name for name in folders if suffix_of(Path(name))]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in arrays)
        for name in sorted([*files, *arrays]):
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()


def kinds_in(folder: Path | Remote) -> str:
    """The kinds of files in a folder of this machine, by their suffixes, such as ``12 .png and 1 .txt``."""
    if isinstance(folder, Remote) or not os.path.isdir(folder):
        return ""
    kinds = (suffix_of(Path(name)) or Path(name).suffix.lower() or "without a suffix" for name in _walk(folder))
    return " and ".join(f"{count} {kind}" for kind, count in Counter(kinds).most_common(_KINDS)) or "no file"


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: cannot be searched for scans ({error.strerror})")


def is_dicom(path: Path | Remote) -> bool:
    """Whether a file is DICOM, by its beginning or its suffix."""
    from featlift.volumes.dicom import looks_like_dicom

    if isinstance(path, Remote):
        with told_of(path):
            return looks_like_dicom(path.name, b"") or (
                path.stamped().bytes != 0 and looks_like_dicom(path.name, path.read_bytes(0, _DICOM_START))
            )
    try:
        if not path.is_file():  # a pipe would never end
            return False
        with path.open("rb") as file:
            return looks_like_dicom(path.name, file.read(_DICOM_START))
    except OSError:
        return False


def _is_featlift_store(path: Path | Remote) -> bool:
    try:
        return "featlift" in json.loads((path / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        return False

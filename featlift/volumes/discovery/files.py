"""The scans of one file, of DICOM files that belong together, and which files there are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from featlift.errors import FeatliftError, InputError
from featlift.remote import Remote
from featlift.volumes.formats import FORMATS, suffix_of
from featlift.volumes.formats.medmnist import is_medmnist, medmnist_volumes
from featlift.volumes.opening import error_context, open_image
from featlift.volumes.scan import Frame, Scan, Selection, case_id_of
from featlift.volumes.source import Skipped, Source

_DICOM_START = 132  # bytes that tell a DICOM file


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


def in_file(path: Path | Remote, name: str, selection: Selection, skipped: list[Skipped]) -> Iterator[Scan]:
    """The scans of one file called `name`; a .zip or .npz must be on this machine."""
    suffix = suffix_of(path)
    if isinstance(path, Path) and path.suffix.lower() == ".zip":
        from featlift.volumes.dicom import dicom_in_zip

        try:
            members = dicom_in_zip(path)
        except InputError as error:
            yield Scan(case_id_of(name), name, (Source(path, refusal=str(error)),))
            return
        if not members:
            skipped.append(Skipped(name, "a .zip without DICOM files"))
        yield from in_dicom(path, name[: -len(".zip")], members, selection, skipped)
    elif suffix is None and is_dicom(path):
        yield from in_dicom(path.parent, "", [path.name], selection, skipped)
    elif suffix == ".zarr" and _is_featlift_store(path):
        skipped.append(Skipped(name, "a store of featlift"))
    elif isinstance(path, Path) and suffix == ".npz" and selection.key is None and is_medmnist(path):
        with error_context(path):
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
        where = "/".join(part for part in (name, each.folder) if part) or name_of(root)
        case_id = f"{where.replace('/', '__').lstrip('.')}__{each.digest}"
        scan = Scan(case_id, where, (Source(root, members=each.members),))
        yield from with_frames(scan, selection.frame)


def name_of(root: Path | Remote) -> str:
    """The last part of where something is, also of ``.`` and ``..``."""
    return root.name if isinstance(root, Remote) else root.resolve().name


def walk(root: Path) -> Iterator[str]:
    """Every file below a folder, and every folder that is one array, by its path below."""
    for folder, folders, files in os.walk(root, onerror=_refuse):  # not into links, so no loops
        arrays = [name for name in folders if suffix_of(Path(name))]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in arrays)
        for name in sorted([*files, *arrays]):
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()


def _refuse(error: OSError) -> NoReturn:
    raise InputError(f"{error.filename}: cannot be searched for scans ({error.strerror})")


def is_dicom(path: Path | Remote) -> bool:
    """Whether a file is DICOM, by its beginning or its suffix."""
    from featlift.volumes.dicom import looks_like_dicom

    if isinstance(path, Remote):
        with error_context(path):
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

"""`find_series`: which files belong together, and which are no scan."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from featlift.counting import number_of
from featlift.errors import VolumeError
from featlift.remote import Remote
from featlift.volumes.dicom.headers import read_header, reading
from featlift.volumes.dicom.members import OpenMember, common_folder, opener
from featlift.volumes.dicom.scouting import modality_of, why_no_slice
from featlift.volumes.source import Skipped


@dataclass(frozen=True)
class Series:
    """The images of one SeriesInstanceUID.

    Attributes:
        members: its files, by their paths below the root.
        folder: the deepest folder that holds them all, "" for the root itself.
        digest: the start of the SHA-256 of its SeriesInstanceUID.
        modality: ``CT``, ``MR``, ... if the files say.
    """

    members: tuple[str, ...]
    folder: str
    digest: str
    modality: str | None


@dataclass(frozen=True)
class _Instance:
    """One file: its frames (0 if damaged), why it is no slice (None if it is), what tells it from a copy."""

    member: str
    uid: str
    frames: int
    modality: str | None
    why_no_slice: str | None
    identity: tuple[str, ...]


def find_series(root: Path | Remote, members: Sequence[str]) -> tuple[list[Series], list[Skipped]]:
    """Read the headers of DICOM files and sort them into series, wherever below `root` the files of one are.

    Args:
        root: a folder, a .zip, or a folder behind a URL.
        members: its DICOM files, by their paths below it, "/" between folders.

    Returns:
        The series, ordered by folder, and what is no volume: one entry for a file, or for the files of a series that
        have the same reason. Files without a SeriesInstanceUID, as some ways of de-identification leave them, are a
        series by folder.
    """
    instances: dict[tuple[str, str], list[_Instance]] = defaultdict(list)
    skipped = []
    with opener(root) as open_member:
        for member in sorted(members):
            try:
                instance = _inspect(open_member, member)
            except VolumeError as error:
                skipped.append(Skipped(member, str(error)))
            else:
                instances[instance.uid, "" if instance.uid else posixpath.dirname(member)].append(instance)
    found = []
    for (uid, _), files in instances.items():
        digest = sha256(uid.encode()).hexdigest()[:8]
        files = _without_copies(files)
        slices = [file for file in files if file.why_no_slice is None]
        if [file.frames for file in slices] == [1]:
            skipped.append(Skipped(slices[0].member, "a single image"))
        elif slices:
            paths = tuple(file.member for file in slices)
            found.append(Series(paths, common_folder(paths), digest, slices[0].modality))
        skipped.extend(_no_slices(files, digest))
    return sorted(found, key=lambda series: (series.folder, series.digest)), skipped


def _inspect(open_member: OpenMember, member: str) -> _Instance:
    with reading("not readable as DICOM"), open_member(member) as file:
        header = read_header(file)
        uid = str(header.get("SeriesInstanceUID") or "")
    try:
        with reading("its header is not readable"):
            reason, modality = why_no_slice(header), modality_of(header)
            if reason is None and "Rows" not in header and "SeriesInstanceUID" not in header:
                raise EOFError
            frames = len(header.get("PerFrameFunctionalGroupsSequence") or [header]) if "Rows" in header else 0
            keywords = ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient")
            identity = tuple(str(header.get(keyword)) for keyword in keywords if header.get("SOPInstanceUID"))
    except VolumeError:
        if not uid:
            raise
        reason, modality, frames, identity = None, None, 0, ()  # opening its series will say what is wrong
    return _Instance(member, uid, frames, modality, reason, identity or (member,))


def _without_copies(files: Iterable[_Instance]) -> list[_Instance]:
    """Each instance once, however often it was copied into the tree."""
    unique: dict[tuple[str, ...], _Instance] = {}
    for file in files:
        unique.setdefault(file.identity, file)
    return list(unique.values())


def _no_slices(files: Iterable[_Instance], digest: str) -> Iterator[Skipped]:
    """What a series holds that is no slice, counted by reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if file.why_no_slice is not None:
            by_reason[file.why_no_slice].append(file.member)
    for reason, members in by_reason.items():
        if len(members) == 1:
            yield Skipped(members[0], reason)
        else:
            folder = common_folder(members)
            yield Skipped(f"{folder}__{digest}" if folder else digest, f"{number_of(len(members), 'file')}: {reason}")

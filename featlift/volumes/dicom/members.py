"""The files of a series, in a folder or in a .zip."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from featlift.errors import InputError, VolumeError
from featlift.remote import Remote
from featlift.volumes.dicom.headers import reading

OpenMember = Callable[[str], BinaryIO]

_PREAMBLE = 128  # bytes before the mark, PS3.10 7.1
_MARK = b"DICM"
_SUFFIXES = (".dcm", ".ima")
_LARGEST = 4 << 30  # bytes: a value of DICOM has a length of 32 bits
_INFLATES_AT_MOST = 1032  # times, as deflate is made
_ENCRYPTED = 1  # flag of a member


def looks_like_dicom(name: str, start: bytes) -> bool:
    """Whether a file is DICOM: its first 132 bytes carry the mark, or, in old files without one, its suffix says so."""
    return start[_PREAMBLE : _PREAMBLE + len(_MARK)] == _MARK or name.lower().endswith(_SUFFIXES)


def dicom_in_zip(path: Path) -> list[str]:
    """The DICOM files in a .zip, by their paths in it; hidden ones left out.

    Files that cannot be read are among them: what is wrong is told where they are opened.

    Raises:
        InputError: not a .zip that can be read.
    """
    try:
        archive = ZipFile(path)
    except (BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path.name}: not a .zip that can be read: pack it again") from error
    with archive:
        return [info.filename for info in archive.infolist() if _may_be_dicom(archive, info)]


@contextmanager
def opener(root: Path | Remote) -> Iterator[OpenMember]:
    """What opens a file by its path below `root`, a folder or a .zip; the .zip is parsed once and nothing unpacked.

    Behind a URL a folder's files are read in parts, as far as they are asked for.

    Raises:
        VolumeError: when opening: a member of a .zip that is encrypted, damaged or a bomb.
    """
    if isinstance(root, Remote):
        yield lambda member: (root / member).open()
        return
    if root.is_dir():
        yield lambda member: (root / member).open("rb")
        return
    try:
        archive = ZipFile(root)
    except (BadZipFile, NotImplementedError) as error:
        raise VolumeError("not a .zip that can be read: pack it again") from error
    with archive:
        yield lambda member: _open_in_zip(archive, member)


def common_folder(members: Iterable[str]) -> str:
    """The deepest folder that holds all members, "" for the root itself."""
    return posixpath.commonpath([posixpath.dirname(member) for member in members])


def _may_be_dicom(archive: ZipFile, info: ZipInfo) -> bool:
    parts = info.filename.split("/")
    if info.is_dir() or parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts):
        return False
    try:
        with reading("not readable"), _open_in_zip(archive, info.filename) as file:
            return looks_like_dicom(info.filename, file.read(_PREAMBLE + len(_MARK)))
    except VolumeError:
        return True


def _open_in_zip(archive: ZipFile, member: str) -> BinaryIO:
    info = archive.getinfo(member)
    if info.flag_bits & _ENCRYPTED:
        raise VolumeError("encrypted: unpack the .zip")
    is_bomb = info.compress_type != ZIP_STORED and info.file_size > _INFLATES_AT_MOST * (info.compress_size + 1)
    if is_bomb or info.file_size > _LARGEST:  # zipfile reads no more than this size
        raise VolumeError(f"claims {info.file_size:,} bytes in the .zip: pack it again")
    return cast(BinaryIO, archive.open(info))

"""Scans behind a URL: each is copied whole to this machine, read there like any other, and removed again."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from featlift.errors import FeatliftError, VolumeError
from featlift.names import stays_below
from featlift.remote import Remote, Stamp
from featlift.staging import new_temporary_folder, temporary_folder
from featlift.volumes.formats import FORMATS, suffix_of
from featlift.volumes.formats.nifti import image_of
from featlift.volumes.formats.voxels import MissingFileError
from featlift.volumes.source import Source

_HEADERS = (".hdr", ".nhdr", ".mhd")  # whose voxels are in another file
_ENDINGS = (".zip", ".csv")  # of what is fetched besides scans
_COPY = "featlift~copy"  # what no message says by chance


@contextmanager
def fetched(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """The sources with all their files on this machine: of those behind a URL, copies that are removed at the end.

    The copy of a file that holds several volumes, those with a key or a frame, stays until another such file is
    fetched: the next volume is most often in the same.
    """
    with ExitStack() as stack:
        copies = [_at_hand(source, stack) for source in sources]
        try:
            yield copies
        except FeatliftError as error:
            error.args = (_without_copies(str(error), sources, copies),)
            raise


def stamp_of(source: Source) -> Stamp:
    """What is known of the files of a source behind a URL without reading them."""
    path = source.path
    assert isinstance(path, Remote)
    if path.stamp is None and _is_folder(source):
        return Stamp.joined([(path / member).stamped() for member in source.members])
    if path.stamp is None and suffix_of(path) == ".zarr":
        return Stamp.joined([stamp for _, stamp in sorted(path.files().items())])
    stamp = path.stamped()
    return replace(stamp, version=None) if suffix_of(path) in _HEADERS else stamp  # it says nothing of the voxels


def _at_hand(source: Source, stack: ExitStack) -> Source:
    if not isinstance(source.path, Remote):
        return source
    if source.key is None and source.frame is None:
        path = _fetch(source, stack.enter_context(temporary_folder()))
    else:
        copy = _kept(source.path, source.members, stamp_of(source))
        stack.callback(lambda: copy)  # holds it: its folder goes when nobody does
        path = copy.path
    return replace(source, path=path)


def _without_copies(text: str, sources: Sequence[Source], copies: Sequence[Source]) -> str:
    """A message that names files as they are called behind their URLs."""
    for source, copy in zip(sources, copies, strict=True):
        if source.path != copy.path:
            text = text.replace(str(copy.path), source.path.name).replace(copy.path.name, source.path.name)
    return text


class _Copy:
    """A copy that is removed when it is no longer referred to."""

    def __init__(self, source: Source) -> None:
        folder = new_temporary_folder()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = _fetch(source, folder)


@lru_cache(maxsize=1)
def _kept(path: Remote, members: tuple[str, ...], stamp: Stamp) -> _Copy:
    return _Copy(Source(path, members=members))


def _fetch(source: Source, folder: Path) -> Path:
    """Copy all files of a source into a folder; where the copy is.

    The copy has a name of its own, and of the URL's only an ending that is known. Names below it, of the files of an
    array or a series and of voxels beside their header, must stay below.
    """
    remote = source.path
    assert isinstance(remote, Remote)
    suffix = suffix_of(remote)
    copy = folder / f"{_COPY}{suffix or (remote.suffix.lower() if remote.suffix.lower() in _ENDINGS else '')}"
    names = list(source.members) if _is_folder(source) else [""]
    if suffix == ".zarr":
        names = list(remote.files())
    if not all(stays_below(name) for name in names if name):
        raise VolumeError("holds a file whose name leads out of it: rename that one")
    remote.fetch({name: copy / name for name in names})
    if suffix in _HEADERS:
        _fetch_voxels(remote, copy, suffix)
    return copy


def _fetch_voxels(remote: Remote, copy: Path, suffix: str) -> None:
    """Copy the file of the voxels to beside a header, unless the header is damaged: reading it will say how."""
    try:
        FORMATS[suffix].files(copy)
    except MissingFileError as missing:
        name = image_of(Path(remote.name)).name if suffix == ".hdr" else missing.name
        try:
            remote.parent.fetch({name: copy.parent / missing.name})
        except FileNotFoundError:
            raise MissingFileError(name) from None
    except VolumeError:
        pass


def _is_folder(source: Source) -> bool:
    """Whether it is a DICOM series as files of their own."""
    return bool(source.members) and source.path.suffix.lower() != ".zip"

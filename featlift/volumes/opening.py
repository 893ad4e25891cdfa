"""What a source holds: one file, one array of it, one DICOM series, to one `Volume`; its header; its fingerprint."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.checksums import sha256_of_file
from featlift.config import ReadingConfig
from featlift.errors import InputError, RemoteError, VolumeError
from featlift.names import without_folders
from featlift.remote import Remote, Stamp
from featlift.volumes.fetching import fetched, stamp_of
from featlift.volumes.formats import FORMATS, Format, suffix_of
from featlift.volumes.image import Image
from featlift.volumes.mask_files import open_labels
from featlift.volumes.source import Source
from featlift.volumes.volume import Affine, Volume

#: Volumes of more voxels are refused before memory is asked for: 2000 slices of 1024 x 1024.
MAX_VOXELS = 2000 * 1024 * 1024

_WORST_CONDITION = 1e6  # of an affine: voxels a thousand times longer than wide, and as much for shear


@dataclass(frozen=True)
class Reading:
    """How far reading may go.

    Attributes:
        max_voxels: larger volumes are refused before memory is asked for; of an image of several frames, all count.
        allow_irregular: bring DICOM slices at irregular positions onto a regular grid instead of refusing them.
    """

    max_voxels: int = MAX_VOXELS
    allow_irregular: bool = False

    @classmethod
    def of(cls, config: ReadingConfig) -> Reading:
        """What a configuration asks for."""
        return cls(config.max_voxels or MAX_VOXELS, config.allow_irregular)


def read_source(source: Source, reading: Reading = Reading()) -> Volume:
    """Read one volume; see `read` for what it raises."""
    image, stored, identified = read_stored(source, reading)
    with error_context(source.path), np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are refused later
        own = stored.flags.owndata and stored.flags.writeable  # what is a file's, or kept for later frames, is a view
        array = stored.astype(np.float32, order="C", copy=not own)
    affine = None if image.affine is None else image.affine.copy()  # the image may be remembered for its next frame
    return Volume(array, affine, image.modality, identified, dict(image.notes))


def read_stored(source: Source, reading: Reading = Reading()) -> tuple[Image, NDArray[Any], dict[str, Any]]:
    """Read one volume without a change of type: its header, its voxels as `Image.load` has them, what identifies it.

    The voxels may be shared with a file or with later frames: copy them before you write into them. See `read` for what
    it raises.
    """
    with error_context(source.path):
        _check_found(source)
        known = signature([source])  # before the content: a file replaced meanwhile is then seen as changed
        with fetched([source]) as (copy,):
            identified = {**identity([copy]), **known, **({"key": source.key} if source.key else {})}
            image = _open(copy, reading.allow_irregular)
            frame = _frame_to_load(image, copy, reading)
            with np.errstate(over="ignore", invalid="ignore"):
                return image, image.load(frame), identified


def open_image(source: Source, allow_irregular: bool = False) -> Image:
    """Read the header of an image, all frames in one; see `read` for what it raises.

    Of one behind a URL the voxels cannot be loaded any more: its copy is gone.
    """
    with error_context(source.path):
        _check_found(source)
        with fetched([source]) as (copy,):
            return _open(copy, allow_irregular)


def _check_found(source: Source) -> None:
    if source.refusal:
        raise InputError(source.refusal)


def check_header(source: Source, reading: Reading) -> Image:
    """Read a header and refuse all that `read_source` refuses before voxels; see `read` for what it raises."""
    image = open_image(source, reading.allow_irregular)
    with error_context(source.path):
        _frame_to_load(image, source, reading)
    return image


def files_of(source: Source) -> list[Path]:
    """Every file that a volume on this machine is read from."""
    assert isinstance(source.path, Path)
    if source.members:
        return [source.path] if source.path.is_file() else [source.path / member for member in source.members]
    return _format_of(source.path).files(source.path)


def signature(sources: Iterable[Source]) -> dict[str, Any]:
    """Size in bytes and time of the latest change of the files of a volume; behind a URL also their version."""
    sources = list(sources)
    if any(isinstance(source.path, Remote) for source in sources):
        files = {(source.path, source.members): source for source in sources}.values()
        return asdict(Stamp.joined([_stamp(source) for source in files]))
    statuses = [file.stat() for file in dict.fromkeys(file for source in sources for file in files_of(source))]
    return {
        "bytes": sum(status.st_size for status in statuses),
        "mtime_ns": max((status.st_mtime_ns for status in statuses), default=0),
    }


def _stamp(source: Source) -> Stamp:
    if isinstance(source.path, Remote):
        return stamp_of(source)
    known = signature([source])
    return Stamp(**known, version=str(known["mtime_ns"]))


def identity(sources: Sequence[Source]) -> dict[str, Any]:
    """Size, time and SHA-256 of the files of a volume, by which a later run knows it again.

    Of several files, the SHA-256 is that of theirs in order.
    """
    known = signature(sources)
    with fetched(sources) as copies:
        return {**known, "sha256": _joined([_digest(copy) for copy in copies])}


def _digest(source: Source) -> str:
    digests = [_sha256(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(source)]
    may_have_any_names = source.members and not source.labels  # DICOM files
    of_files = _joined(sorted(digests) if may_have_any_names else digests)
    return sha256(f"{source.labels} {of_files}".encode()).hexdigest() if source.labels else of_files


def _joined(digests: list[str]) -> str:
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


@lru_cache(maxsize=4)  # a file of many volumes is not read through for each of them
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    return sha256_of_file(path)


def _open(source: Source, allow_irregular: bool) -> Image:
    path = source.path
    assert isinstance(path, Path)
    if source.labels is not None:
        image: Image = open_labels(source, partial(_open, allow_irregular=allow_irregular))
    elif source.members:
        from featlift.volumes.dicom import open_series

        image = open_series(path, source.members, allow_irregular=allow_irregular)
    else:
        if source.key and not _format_of(path).has_arrays:
            raise VolumeError(f"asked for its array {source.key!r}, but a {suffix_of(path)} file holds only one")
        image = _open_file(path, source.key, *signature([source]).values())
    _check(image.affine)
    return image


def _format_of(path: Path) -> Format:
    """How a file is read, before it is opened: what is not a file may have no end."""
    is_file = S_ISREG(path.stat().st_mode)
    suffix = suffix_of(path)
    if suffix is None:
        raise VolumeError(f"not one of the formats read here ({', '.join(FORMATS)}, DICOM)")
    if suffix != ".zarr" and not is_file:
        raise VolumeError("not a file: give the scans of a folder one by one")
    return FORMATS[suffix]


@lru_cache(maxsize=1)  # a compressed file of many frames is decoded once
def _open_file(path: Path, key: str | None, size: int, mtime_ns: int) -> Image:
    with np.errstate(over="ignore", invalid="ignore"):  # infinite affines are refused later
        return _format_of(path).open(path, key)


def _frame_to_load(image: Image, source: Source, reading: Reading) -> int:
    frame = _frame_of(image, source)
    voxels = image.frames * math.prod(image.shape)
    if voxels > reading.max_voxels:
        raise VolumeError(f"its header declares {voxels:,} voxels, more than the {reading.max_voxels:,} allowed")
    return frame


def _frame_of(image: Image, source: Source) -> int:
    if source.frame is None:
        if image.frames > 1:
            by = f" ({image.notes['frames']['by']})" if "frames" in image.notes else ""
            raise VolumeError(f"{image.frames} frames{by}: choose with --frame N, or take --frame all")
        return 0
    if not 0 <= source.frame < image.frames:
        raise VolumeError(f"no frame {source.frame}: it has {image.frames}, counted from 0")
    return source.frame


@contextmanager
def error_context(path: Path | Remote) -> Iterator[None]:
    """Errors in one family, each with the name of the file, and no folder of this machine."""
    try:
        yield
    except (InputError, RemoteError) as error:  # they are OSErrors too
        error.args = (_without_folder(error, path),)
        raise
    except VolumeError as error:
        raise VolumeError(f"{path.name}: {_without_folder(error, path)}") from error
    except FileNotFoundError as error:
        what = f"{path}: {error.strerror}" if isinstance(path, Remote) else f"{path.name}: no such file"
        raise InputError(what) from error
    except OSError as error:
        raise VolumeError(f"{path.name}: cannot be read ({without_folders(error.strerror or str(error))})") from error
    except MemoryError as error:
        raise VolumeError(f"{path.name}: too large for the memory of this machine") from error
    except ValueError as error:
        if "\0" not in str(path):
            raise
        raise InputError(f"{path.name!r}: no file can have this name") from error


def _without_folder(error: Exception, path: Path | Remote) -> str:
    is_absolute = isinstance(path, Path) and path.is_absolute()
    return str(error).replace(f"{path.parent}{os.sep}", "") if is_absolute else str(error)


def _check(affine: Affine | None) -> None:
    if affine is not None and not (np.isfinite(affine).all() and np.linalg.cond(affine[:3, :3]) < _WORST_CONDITION):
        raise VolumeError("its affine is not invertible: correct the header (sform, qform, spacing)")

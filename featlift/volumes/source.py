"""Where one volume is: files, and what in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from featlift.remote import Remote, parse_location


@dataclass(frozen=True)
class Source:
    """One volume on disk, or behind a URL.

    Attributes:
        path: a file, the folder of a Zarr array or of a DICOM series, or a .zip that holds the series.
        key: the array inside, of files that hold several (HDF5, npz, Zarr).
        frame: which of several frames, counted from 0; None if there is just one.
        members: files below `path`: of a DICOM series; of a mask that is a file a structure; of a DICOM segmentation,
            one; of an RTSTRUCT, it and the series that its contours lie on.
        refusal: why it is no volume, if that is known since it was found.
        labels: None for a scan. For a mask, the names of its structures and their labels, in which structures that are
            not wanted are left out; nothing for a mask that names none.
    """

    path: Path | Remote
    key: str | None = None
    frame: int | None = None
    members: tuple[str, ...] = ()
    refusal: str = ""
    labels: tuple[tuple[str, int], ...] | None = None


#: A mask, as `featlift.find_masks` gives it.
MaskFile = str | Path | Source


def as_mask(source: Source) -> Source:
    """The source, to be read as labels."""
    return source if source.labels is not None else replace(source, labels=())


@dataclass(frozen=True)
class Skipped:
    """Something among the inputs that is no scan, and does not claim to be one.

    Attributes:
        name: its path below the input.
        reason: what it is instead.
    """

    name: str
    reason: str


def place_and_key(given: str | Path | Remote) -> tuple[Path | Remote, str]:
    """Where a volume is, and the key of its array, "" if none is given."""
    if isinstance(given, Remote):
        return given, ""
    text, _, key = str(given).partition("::")
    return parse_location(text), key

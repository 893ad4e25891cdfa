"""Where one volume is: files, and what in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featlift.remote import Remote


@dataclass(frozen=True)
class Source:
    """One volume on disk, or behind a URL.

    Attributes:
        path: a file, the folder of a Zarr array or of a DICOM series, or a .zip that holds the series.
        key: the array inside, of files that hold several (HDF5, npz, Zarr).
        frame: which of several frames, counted from 0; None if there is just one.
        members: of a DICOM series, its files below `path`.
    """

    path: Path | Remote
    key: str | None = None
    frame: int | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """Something among the inputs that is no scan, and does not claim to be one.

    Attributes:
        name: its path below the input.
        reason: what it is instead.
    """

    name: str
    reason: str

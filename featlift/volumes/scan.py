"""A scan among the inputs, and what decides which of the files are scans."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from featlift.config import SelectionConfig
from featlift.remote import Remote, parse_location
from featlift.volumes.formats import suffix_of
from featlift.volumes.source import Skipped, Source

Frame = int | Literal["all"] | None


@dataclass(frozen=True)
class Scan:
    """One volume among the inputs.

    Attributes:
        id: case id: the path below the input folder, "/" as "__", extension dropped.
        name: the path below the input folder, for people and for the store.
        sources: where it is; three of them are the channels of one volume.
        labels: what the inputs say of it: label, split, further columns of a manifest.
        mask: where its mask is, if it has one.
        centre: of the region to take, (x, y, z) in LPS millimetres; None takes all of it.
    """

    id: str
    name: str
    sources: tuple[Source, ...]
    labels: dict[str, Any] = field(default_factory=dict)
    mask: Source | None = None
    centre: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class DiscoveredScans:
    """What the inputs hold.

    Attributes:
        scans: ordered by case id.
        skipped: what is no scan and does not claim to be one: scouts, reports, single images.
        notices: what one wants to know before a long run, a sentence each.
        refused: scans whose ids cannot be any, and why.
    """

    scans: list[Scan]
    skipped: list[Skipped] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    refused: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """Which files of the inputs are scans, and what in them.

    Attributes:
        glob: if any are given, only paths below the input folder that match one of them, such as ``*_T1.nii.gz``.
        exclude: patterns of paths to leave out, such as ``*_label.nrrd``.
        key: the array to read of files that hold several.
        frame: the frame to read of images that hold several; ``all`` makes a case of each, ``<id>__frame<n>``.
        channels: three frames, or three columns of a manifest, that are the channels of one volume.
        mask_pattern: files that match are masks, not scans; ``*`` is what a mask's name shares with its scan's.
        masks: a folder of masks, named as the scans; or the mask of the only scan.
        roi: ``masks``, or a folder of them, makes a case of each lesion, ``<id>__roi<n>``; a CSV with id, x, y, z
            (LPS mm) a case of each point.
    """

    glob: Sequence[str] = ()
    exclude: Sequence[str] = ()
    key: str | None = None
    frame: Frame = None
    channels: Sequence[str] = ()
    mask_pattern: str | None = None
    masks: str | Path | None = None
    roi: str | None = None

    @classmethod
    def of(cls, config: SelectionConfig) -> Selection:
        """What a configuration asks for."""
        return cls(**{name: value for name, value in vars(config).items() if name != "limit"})

    @property
    def points(self) -> Path | None:
        """The CSV of `roi`, if it is one."""
        return Path(self.roi) if self.roi and self.roi.lower().endswith(".csv") else None

    @property
    def mask_folder(self) -> Path | Remote | None:
        """Where masks are that do not lie among the scans."""
        given = self.roi if self.roi not in (None, "masks") and not self.points else self.masks
        return None if given is None else parse_location(given)

    def takes(self, name: str) -> bool:
        """Whether a path below the input folder is wanted."""
        wanted = not self.glob or any(matches(name, pattern) for pattern in self.glob)
        return wanted and not any(matches(name, pattern) for pattern in self.exclude)


def matches(name: str, pattern: str) -> bool:
    """Whether a path, or the name of its file, matches a pattern."""
    return fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern)


def id_of_array(name: str, key: str) -> str:
    """The case id of one array of a file that holds several, if the input names it."""
    return f"{case_id_of(name)}__{key.strip('/').replace('/', '__')}"


def known_id(given: str, ids: Container[str]) -> str:
    """The one of these case ids that a table means, which may have the extension of the scan; else as it is given."""
    without = case_id_of(given) if suffix_of(Path(given)) else given
    return without if given not in ids and without in ids else given


def case_id_of(name: str) -> str:
    """The case id that a path below the input folder gives."""
    suffix = suffix_of(Path(name)) or Path(name).suffix
    return name[: len(name) - len(suffix)].replace("/", "__").lstrip(".") or "scan"

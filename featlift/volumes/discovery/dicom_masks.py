"""Masks in DICOM, segmentations and contours: which files are some, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from featlift.errors import InputError, VolumeError
from featlift.volumes.discovery.files import is_dicom, walk
from featlift.volumes.discovery.pairing import shared_part
from featlift.volumes.discovery.structures import Reach
from featlift.volumes.formats import suffix_of
from featlift.volumes.scan import Scan, matches
from featlift.volumes.source import Skipped, Source


def dicom_masks(
    place: Path, pattern: str, series: Callable[[], Sequence[Scan]], reach: Reach, skipped: list[Skipped]
) -> dict[str, Source]:
    """The masks in DICOM at a place, by case: that whose series they were drawn on, or that they are called after.

    Args:
        place: a folder or a file.
        pattern: which files are masks; ``*`` is the case's name.
        series: gives the DICOM series in the same place, on which contours lie.
        reach: the cases.
        skipped: is told of damaged files.

    Raises:
        InputError: two masks of one case, or contours without the series that they were drawn on.
    """
    from featlift.volumes.dicom import structures_in

    root, names = (place, walk(place)) if place.is_dir() else (place.parent, iter([place.name]))
    found: dict[str, Source] = {}
    for name in names:
        path = root / name
        if suffix_of(path) or not matches(name, pattern) or not is_dicom(path):
            continue
        try:
            structures = structures_in(path)
        except VolumeError as error:
            skipped.append(Skipped(name, str(error)))
            continue
        if structures is None:
            continue
        members = _series_of(structures.series, series(), name) if structures.needs_series else ()
        source = Source(root, members=(name, *members), labels=structures.labels)
        called = _called(shared_part(name, pattern))
        whose = reach.of_series(structures.series) or next((each for each in called if each in reach), name)
        if (other := found.setdefault(whose, source)) is not source:
            raise InputError(
                f"two masks for {whose}: {other.members[0]} and {name}; choose with --mask-pattern, or in a CSV with "
                "id,path"
            )
    return found


def _series_of(digest: str, series: Sequence[Scan], name: str) -> tuple[str, ...]:
    for scan in series:
        if scan.id.rpartition("__")[2] == digest:
            return scan.sources[0].members
    raise InputError(
        f"{name}: its contours lie on the series {digest or 'that it does not name'}, which is not in the same place: "
        "give the folder that holds both as --masks"
    )


def _called(name: str) -> Iterator[str]:
    """What a file may be called after: itself, or one of its folders."""
    yield name.removesuffix(".dcm")
    yield from (name, *(folder.as_posix() for folder in Path(name).parents if folder.name))

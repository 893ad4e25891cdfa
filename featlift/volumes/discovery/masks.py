"""Masks among the inputs or in a place of their own: told from the scans, and paired with them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

from featlift.errors import InputError
from featlift.remote import Remote, parse_location
from featlift.volumes.discovery.ids import real_path, unique
from featlift.volumes.discovery.inputs import nothing_found, scans_in
from featlift.volumes.discovery.pairing import pair_scans, shared_part
from featlift.volumes.discovery.seeming import sounds_like_a_mask
from featlift.volumes.formats import suffix_of
from featlift.volumes.scan import Scan, Selection, known_id, matches
from featlift.volumes.source import Skipped, Source

_PART = re.compile(r"(__(roi|frame)\d+)+$")


def find_masks(ids: Iterable[str], masks: str | Path, pattern: str | None = None) -> dict[str, str | Path]:
    """The mask of each case that has one. Regions and frames of a scan (``__roi1``, ``__frame0``) have the scan's.

    Args:
        ids: case ids, such as the keys of a store.
        masks: a folder of masks, named as the cases; a CSV with ``id,path``, or a manifest with a column ``mask``; or
            the mask of the only scan.
        pattern: files of the folder that are masks, such as ``*_label.nrrd``; ``*`` is the case's name.

    Returns:
        By id, a path or URL for `featlift.read`: ``file.h5::name`` for an array of a file that holds several.

    Raises:
        InputError: there is no such folder or file, it holds none, or a case could have several.
    """
    whole = {case_id: _PART.sub("", case_id) for case_id in ids}
    place = parse_location(masks)
    found = _masks_of(place, pattern, {*whole, *whole.values()})
    scans = [Scan(scan_id, scan_id.replace("__", "/"), ()) for scan_id in sorted(set(whole.values()))]
    if _is_file(place) and len(scans) == len(found) == 1:  # whatever they are called
        pairs = dict.fromkeys(whole.values(), next(iter(found.values())))
    else:
        pairs = pair_scans(scans, found)
    sources = {case_id: found.get(case_id) or pairs.get(scan_id) for case_id, scan_id in whole.items()}
    return {case_id: _as_input(source) for case_id, source in sources.items() if source}


def masks_apart(scans: list[Scan], selection: Selection) -> tuple[list[Scan], dict[str, Source] | None]:
    """The scans, and the masks that options tell from them, by the id of their scan; None if none do."""
    pattern = selection.mask_pattern
    folder = selection.mask_folder
    if folder:
        masks = _masks_of(folder, pattern, {scan.id for scan in scans})
        if _is_file(folder) and len(scans) == len(masks) == 1:  # whatever they are called
            return scans, {scans[0].id: next(iter(masks.values()))}
        files = {real_path(mask) for mask in masks.values()}  # their folder may be below that of the scans
        scans = [scan for scan in scans if real_path(scan.sources[0]) not in files]
    elif pattern:
        masks = _by_shared_part([scan for scan in scans if matches(scan.name, pattern)], pattern)
        scans = [scan for scan in scans if not matches(scan.name, pattern)]
    else:
        return scans, None
    if not scans:
        option = f"--masks {folder}" if folder else f"--mask-pattern {pattern}"
        raise InputError(f"nothing but masks: all {len(masks)} files are some by {option}")
    return scans, masks


def without_masks(scans: list[Scan], masks: list[Scan], skipped: list[Skipped]) -> tuple[list[Scan], list[str]]:
    """The scans but for those that are masks by their names, and what to say of these."""
    if not masks:
        return scans, []
    names = list(dict.fromkeys(scan.name for scan in masks))
    skipped.extend(Skipped(name, "a mask, by its name") for name in names)
    ids = {scan.id for scan in masks}
    notice = (
        f"{len(names)} of {len(scans)} files are left out as masks, by their names (such as {names[0]}): "
        "--glob '*' takes them as scans, --mask-pattern pairs them with theirs"
    )
    return [scan for scan in scans if scan.id not in ids], [notice]


def paired(scans: list[Scan], masks: dict[str, Source] | None, selection: Selection, notices: list[str]) -> list[Scan]:
    """Each scan with its mask."""
    if masks is None:
        notices += _seeming_masks(scans, selection)
        return scans
    pairs = pair_scans(scans, masks)
    if unpaired := len(masks) - len({id(mask) for mask in pairs.values()}):
        notices.append(f"{unpaired} of {len(masks)} masks belong to no scan by their names")
    if unpaired := len(scans) - len(pairs):
        notices.append(f"{unpaired} of {len(scans)} scans have no mask")
    return [replace(scan, mask=pairs.get(scan.id, scan.mask)) for scan in scans]


def _seeming_masks(scans: list[Scan], selection: Selection) -> list[str]:
    """What to say of scans that are called as masks are; nothing once the user has chosen by name."""
    if selection.glob or selection.exclude:
        return []
    seeming = [scan.name for scan in scans if sounds_like_a_mask(scan.name)]
    if len(seeming) == len(scans) and not any(scan.mask for scan in scans):
        raise InputError(
            f"nothing but masks, by their names (such as {seeming[0]}): give scans, or --glob '*' if they are some"
        )
    if not seeming:
        return []
    return [
        f"{len(seeming)} of {len(scans)} scans are called as masks are (such as {seeming[0]}): "
        "--exclude leaves them out, --mask-pattern pairs them with their scans"
    ]


def _as_input(source: Source) -> str | Path:
    if isinstance(source.path, Remote):
        return f"{source.path.url}::{source.key}" if source.key else source.path.url
    return Path(f"{source.path}::{source.key}") if source.key else source.path


def _is_file(place: Path | Remote) -> bool:
    return suffix_of(place) is not None if isinstance(place, Remote) else place.is_file()


def _masks_of(place: Path | Remote, pattern: str | None, ids: Container[str]) -> dict[str, Source]:
    """Masks by id: of a folder or a file by their names; or of a CSV of masks, or the manifest of the scans."""
    if place.suffix.lower() != ".csv":
        skipped: list[Skipped] = []
        found = unique(scans_in(place, Selection(glob=[pattern or "*"]), skipped), None, None)
        if not found:
            raise InputError(nothing_found([place], f"masks like {pattern}" if pattern else "masks", skipped))
        return _by_shared_part(found, pattern or "*")
    skipped = []
    scans = unique(scans_in(place, Selection(glob=["*"]), skipped), None, None)
    if not scans:
        raise InputError(nothing_found([place], "masks", skipped))
    masks = {known_id(scan.id, ids): scan.mask for scan in scans if scan.mask}
    return masks or {known_id(scan.id, ids): scan.sources[0] for scan in scans}


def _by_shared_part(masks: list[Scan], pattern: str) -> dict[str, Source]:
    """Masks by the id of their scan, as far as their path gives it."""
    by_id: dict[str, Scan] = {}
    for mask in masks:
        shared = shared_part(mask.name, pattern).replace("/", "__")
        other = by_id.setdefault(shared, mask)
        if other is not mask:
            raise InputError(f"two masks for {shared}: {other.sources[0].path} and {mask.sources[0].path}; exclude one")
    return {shared: mask.sources[0] for shared, mask in by_id.items()}

"""`find_scans`: every scan among the inputs, with its case id, its mask and its regions."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from featlift.errors import InputError, OptionError
from featlift.names import look_alikes
from featlift.remote import Remote, located
from featlift.volumes.formats import FORMATS, suffix_of
from featlift.volumes.masks import pair_scans, shared_part
from featlift.volumes.roi import regions_of_interest
from featlift.volumes.scan import Found, Scan, Selection, known_id, matches
from featlift.volumes.seeming import masks_by_name, sounds_like_a_mask
from featlift.volumes.source import Skipped, Source
from featlift.volumes.walking import is_searched, kinds_in, scans_in

_LONGEST_ID = 200  # bytes; a staged folder adds host, process and a random part, and file systems stop at 255
_PART = re.compile(r"(__(roi|frame)\d+)+$")


def find_scans(
    inputs: Sequence[str | Path | Remote],
    selection: Selection | None = None,
    limit: int | None = None,
    refused: list[Skipped] | None = None,
    clashing: list[Skipped] | None = None,
) -> Found:
    """Find every scan in files, folders (recursively), .zip files of DICOM and manifests.

    What is a mask by its name is skipped, if it was found in a folder, beside a scan, and without a glob.

    Args:
        inputs: paths or URLs, of HDF5, .npz and Zarr also ``file::array``.
        selection: which files are scans, and what in them.
        limit: take only the first of them.
        refused: is told of every scan whose id cannot be one, too long or unprintable, and the others are found all the
            same; None raises.
        clashing: is told of every scan whose id another one has; None raises.

    Raises:
        InputError: an input that does not exist or cannot be searched, no scan at all, only masks, an id that is too
            long, or two scans with one id.
    """
    selection = selection or Selection()
    skipped: list[Skipped] = []
    given_as_such: set[str] = set()
    scans = _unique(_all_in(inputs, selection, skipped, given_as_such), refused, clashing)
    if not scans:
        what = "scans that match --glob and --exclude" if selection.glob or selection.exclude else "scans"
        raise InputError(refused[0].reason if refused else _nothing(inputs, what, skipped))
    scans, masks = _masks_apart(scans, selection)
    notices: list[str] = []
    if not selection.glob:
        found = masks_by_name([scan for scan in scans if scan.id not in given_as_such])
        scans, notices = _without(scans, found, skipped)
    scans = _paired(scans, masks, selection, notices)
    scans = scans[:limit]
    if selection.channels:
        scans = [_with_channels(scan, selection.channels) for scan in scans]
    if selection.roi:
        scans = _unique(regions_of_interest(scans, selection.points, skipped), refused, clashing)
        if not scans:
            why = (refused or skipped)[-1].reason
            raise InputError(f"--roi {located(selection.roi)}: no region for any scan ({why})")
    return Found(scans, skipped, [*notices, *_alike(scans)], refused or [])


def _all_in(
    inputs: Sequence[str | Path | Remote], selection: Selection, skipped: list[Skipped], given_as_such: set[str]
) -> Iterator[Scan]:
    """The scans of all inputs, noting the ids of those that were not just found in a folder."""
    for given in inputs:
        searched = is_searched(given)
        for scan in scans_in(given, selection, skipped):
            if not searched:
                given_as_such.add(scan.id)
            yield scan


def _unique(scans: Iterable[Scan], refused: list[Skipped] | None, clashing: list[Skipped] | None) -> list[Scan]:
    """Ordered by id; the same scan found twice counts once."""
    by_id: dict[str, Scan] = {}
    for scan in scans:
        if complaint := _unfit(scan):
            told = refused
        elif complaint := _clash(scan, by_id.get(scan.id, scan)):
            told = clashing
        else:
            by_id.setdefault(scan.id, scan)
            continue
        if told is None:
            raise InputError(complaint)
        told.append(Skipped(scan.name, complaint))
    return [by_id[case_id] for case_id in sorted(by_id)]


def _alike(scans: list[Scan]) -> list[str]:
    """What to say of ids that some disks do not tell apart."""
    groups = look_alikes(scan.id for scan in scans)
    if not groups:
        return []
    return [
        f"{sum(map(len, groups))} case ids differ from another only in case or Unicode form (such as "
        f"{' and '.join(groups[0])}): a store on a disk that ignores this holds only one of them; rename the others"
    ]


def _unfit(scan: Scan) -> str:
    """Why the id of a scan cannot be one, or nothing."""
    if scan.id == "zarr.json":
        return f"{scan.name}: zarr.json is a name that Zarr keeps to itself; rename the scan"
    if not scan.name.isprintable():
        return f"{scan.name!r}: a name that cannot be printed, or is not in UTF-8; rename the scan"
    if "/" in scan.id or scan.id.startswith(".") or not scan.id.isprintable():
        return f"{scan.name}: id {scan.id!r} cannot be the name of a folder"
    if len(scan.id.encode()) > _LONGEST_ID:
        return f"{scan.name}: its case id would be longer than {_LONGEST_ID} bytes; shorten its path"
    return ""


def _clash(scan: Scan, other: Scan) -> str:
    """Why a scan cannot have the id that `other` has, or nothing."""
    if _place(other) != _place(scan):
        return (
            f"two scans with the id {scan.id}: {other.sources[0].path} and {scan.sources[0].path}; "
            "rename or exclude one"
        )
    if (other.labels, other.mask) != (scan.labels, scan.mask):
        return f"{scan.id} stands twice in the inputs, with other labels or another mask: remove one"
    return ""


def _place(scan: Scan) -> tuple[object, ...]:
    return (*(replace(source, path=_real(source)) for source in scan.sources), scan.centre)


def _real(source: Source) -> Path | Remote:
    if isinstance(source.path, Remote):
        return source.path
    return Path(os.path.realpath(source.path))  # not Path's, which raises for a link to itself


def _masks_apart(scans: list[Scan], selection: Selection) -> tuple[list[Scan], dict[str, Source] | None]:
    """The scans, and the masks that options tell from them, by the id of their scan; None if none do."""
    pattern = selection.mask_pattern
    folder = selection.mask_folder
    if folder:
        masks = _masks_of(folder, pattern, {scan.id for scan in scans})
        if _is_file(folder) and len(scans) == len(masks) == 1:  # whatever they are called
            return scans, {scans[0].id: next(iter(masks.values()))}
        files = {_real(mask) for mask in masks.values()}  # their folder may be below that of the scans
        scans = [scan for scan in scans if _real(scan.sources[0]) not in files]
    elif pattern:
        masks = _by_shared_part([scan for scan in scans if matches(scan.name, pattern)], pattern)
        scans = [scan for scan in scans if not matches(scan.name, pattern)]
    else:
        return scans, None
    if not scans:
        option = f"--masks {folder}" if folder else f"--mask-pattern {pattern}"
        raise InputError(f"nothing but masks: all {len(masks)} files are some by {option}")
    return scans, masks


def _without(scans: list[Scan], masks: list[Scan], skipped: list[Skipped]) -> tuple[list[Scan], list[str]]:
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


def _paired(scans: list[Scan], masks: dict[str, Source] | None, selection: Selection, notices: list[str]) -> list[Scan]:
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
    place = located(masks)
    found = _masks_of(place, pattern, {*whole, *whole.values()})
    scans = [Scan(scan_id, scan_id.replace("__", "/"), ()) for scan_id in sorted(set(whole.values()))]
    if _is_file(place) and len(scans) == len(found) == 1:  # whatever they are called
        pairs = dict.fromkeys(whole.values(), next(iter(found.values())))
    else:
        pairs = pair_scans(scans, found)
    sources = {case_id: found.get(case_id) or pairs.get(scan_id) for case_id, scan_id in whole.items()}
    return {case_id: _as_input(source) for case_id, source in sources.items() if source}


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
        found = _unique(scans_in(place, Selection(glob=[pattern or "*"]), skipped), None, None)
        if not found:
            raise InputError(_nothing([place], f"masks like {pattern}" if pattern else "masks", skipped))
        return _by_shared_part(found, pattern or "*")
    scans = find_scans([place], Selection(glob=["*"])).scans
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


def _with_channels(scan: Scan, channels: Sequence[str]) -> Scan:
    """With these frames of its image, or these columns of its manifest, as the channels of one volume."""
    if len(channels) != 3:
        raise OptionError(
            f"--channels {','.join(channels)}: give three, the backbone has no fewer; one may stand twice"
        )
    if len(scan.sources) > 1:
        return scan
    if scan.sources[0].frame is not None:
        raise OptionError(f"--channels {','.join(channels)} takes frames, and so does --frame: give one of them")
    if not all(channel.isdecimal() for channel in channels):
        raise OptionError(f"--channels {','.join(channels)}: give frames such as 0,1,2, or columns of a manifest")
    return replace(scan, sources=tuple(replace(scan.sources[0], frame=int(channel)) for channel in channels))


def _nothing(inputs: Sequence[str | Path | Remote], what: str, skipped: list[Skipped]) -> str:
    why = f"; skipped {skipped[0].name}: {skipped[0].reason}" if skipped else ""
    more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    places = [located(given) for given in inputs]
    held = "" if skipped else "".join(f"; it holds {kinds}" for place in places[:1] if (kinds := kinds_in(place)))
    return f"no {what} in {', '.join(map(str, places))} ({', '.join(FORMATS)}, DICOM){why}{more}{held}"

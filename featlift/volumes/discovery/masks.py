"""Masks among the inputs or in a place of their own: told from the scans, and paired with them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from featlift.errors import InputError
from featlift.remote import Remote, parse_location
from featlift.volumes.discovery.dicom_masks import dicom_masks
from featlift.volumes.discovery.ids import real_path, unique
from featlift.volumes.discovery.inputs import nothing_found, scans_in
from featlift.volumes.discovery.mask_labels import mask_at, numbered, with_segments
from featlift.volumes.discovery.pairing import pair_scans, shared_part
from featlift.volumes.discovery.seeming import masks_by_name, sounds_like_a_mask
from featlift.volumes.discovery.structures import Reach, by_case, whole_scan
from featlift.volumes.formats import suffix_of
from featlift.volumes.label_names import Names
from featlift.volumes.scan import Scan, Selection, known_id, matches
from featlift.volumes.source import MaskFile, Skipped, Source


def find_masks(
    ids: Iterable[str], masks: str | Path, pattern: str | None = None, names: Names | None = None
) -> dict[str, MaskFile]:
    """The mask of each case that has one. Regions and frames of a scan (``__roi1``, ``__frame0``) have the scan's.

    Masks that name their structures, such as a folder with a file for each, have one label for one name in all of them:
    their own where they agree, else the names are counted from 1 in their order.

    Args:
        ids: case ids, such as the keys of a store.
        masks: a folder of masks, named as the cases; a CSV with ``id,path``, or a manifest with a column ``mask``; or
            the mask of the only scan.
        pattern: files of the folder that are masks, such as ``*_label.nrrd``; ``*`` is the case's name.
        names: of labels, for masks that name their structures: these alone are taken.

    Returns:
        By id, what `featlift.read_mask` reads: a path or URL, ``file.h5::name`` for an array of a file that holds
        several, or a `Source` with the labels of the structures that it names.

    Raises:
        InputError: there is no such folder or file, it holds none, a case could have several, or none has a structure
            of these names.
    """
    whole = {case_id: whole_scan(case_id) for case_id in ids}
    place = parse_location(masks)
    found = _masks_of(place, pattern, {*whole, *whole.values()}, names)
    scans = [Scan(scan_id, scan_id.replace("__", "/"), ()) for scan_id in sorted(set(whole.values()))]
    if len(scans) == len(found) == 1 and _is_one(place, found):  # whatever they are called
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
        seeming = {scan.id for scan in masks_by_name(scans)}  # where masks lie among the scans
        masks = _masks_of(folder, pattern, {scan.id for scan in scans} - seeming)
        if len(scans) == len(masks) == 1 and _is_one(folder, masks):  # whatever they are called
            return scans, {scans[0].id: next(iter(masks.values()))}
        files = {file for mask in masks.values() for file in _files_of(mask)}  # they may be among those of the scans
        scans = [scan for scan in scans if not files & _files_of(scan.sources[0])]
    elif pattern:
        named = _by_shared_part([scan for scan in scans if matches(scan.name, pattern)], pattern)
        scans = [scan for scan in scans if not matches(scan.name, pattern)]
        found = by_case(named, Reach(scan.id for scan in scans))
        masks = numbered({name.replace("/", "__"): with_segments(mask) for name, mask in found.items()})
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


def _as_input(source: Source) -> MaskFile:
    if source.labels:
        return source
    if isinstance(source.path, Remote):
        return f"{source.path.url}::{source.key}" if source.key else source.path.url
    return Path(f"{source.path}::{source.key}") if source.key else source.path


def _files_of(source: Source) -> set[Path | Remote]:
    """The files of a mask; of contours without the series that they lie on."""
    real = real_path(source)
    members = source.members[:1] if source.labels and not suffix_of(Path(source.members[0])) else source.members
    return {real / member for member in members} if members else {real}


def _is_one(place: Path | Remote, masks: Mapping[str, Source]) -> bool:
    """Whether a place is just one mask: a file, or a folder of its structures."""
    return _is_file(place) or "" in masks


def _is_file(place: Path | Remote) -> bool:
    return suffix_of(place) is not None if isinstance(place, Remote) else place.is_file()


def _masks_of(
    place: Path | Remote, pattern: str | None, ids: Iterable[str], names: Names | None = None
) -> dict[str, Source]:
    """Masks by id: of a folder or a file by their names; or of a CSV of masks, or the manifest of the scans."""
    masks = _of_table(place, set(ids)) if place.suffix.lower() == ".csv" else _of_place(place, pattern, Reach(ids))
    return numbered({case_id: with_segments(mask) for case_id, mask in masks.items()}, names)


def _of_table(place: Path | Remote, ids: Container[str]) -> dict[str, Source]:
    skipped: list[Skipped] = []
    scans = unique(scans_in(place, Selection(glob=["*"]), skipped), None, None)
    if not scans:
        raise InputError(nothing_found([place], "masks", skipped))
    masks = {known_id(scan.id, ids): scan.mask for scan in scans if scan.mask}
    return masks or {known_id(scan.id, ids): _resolved(scan.sources[0]) for scan in scans}


def _resolved(source: Source) -> Source:
    """A row's mask, which may be none of the images that scans are."""
    own = mask_at(source.path) if source.refusal and isinstance(source.path, Path) else None
    return own or source


def _of_place(place: Path | Remote, pattern: str | None, reach: Reach) -> dict[str, Source]:
    skipped: list[Skipped] = []
    selection = Selection(glob=[pattern or "*"])
    found = unique(scans_in(place, selection, skipped), None, None)
    in_dicom: dict[str, Source] = {}
    if isinstance(place, Path) and suffix_of(place) is None:
        series = [scan for scan in found if scan.sources[0].members]
        in_dicom = dicom_masks(place, pattern or "*", lambda: series, reach, skipped)
        if in_dicom:  # of which DICOM images are the scans
            found = [scan for scan in found if not scan.sources[0].members]
    if not found and not in_dicom:
        raise InputError(nothing_found([place], f"masks like {pattern}" if pattern else "masks", skipped))
    masks = by_case(_by_shared_part(found, pattern or "*"), reach) | in_dicom
    return {name.replace("/", "__"): mask for name, mask in masks.items()}


def _by_shared_part(masks: list[Scan], pattern: str) -> dict[str, Source]:
    """Masks by what of their path their scan has too, as far as the path gives it."""
    by_name: dict[str, Scan] = {}
    for mask in masks:
        shared = shared_part(mask.name, pattern)
        other = by_name.setdefault(shared, mask)
        if other is not mask:
            raise InputError(f"two masks for {shared}: {other.sources[0].path} and {mask.sources[0].path}; exclude one")
    return {shared: mask.sources[0] for shared, mask in by_name.items()}

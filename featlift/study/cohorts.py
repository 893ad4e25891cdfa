"""A cohort as it takes part: scans, masks, splits and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featlift.config import SelectionConfig
from featlift.errors import InputError
from featlift.progress import Progress
from featlift.study.derived import derived_scans
from featlift.study.plan import Cohort
from featlift.tables import read_table, write_table
from featlift.volumes import DiscoveredScans, Selection, find_masks, find_scans
from featlift.volumes.scan import known_id
from featlift.volumes.source import MaskFile

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Members:
    """Who takes part.

    Attributes:
        found: their scans.
        masks: the path of the mask of each that has one.
        splits: of each, train, val or test.
        labels: what else is known of each, by column.
    """

    found: DiscoveredScans
    masks: Mapping[str, MaskFile]
    splits: Mapping[str, str]
    labels: Mapping[str, Mapping[str, str]]

    def of(self, *splits: str) -> DiscoveredScans:
        """The scans of some splits."""
        return replace(self.found, scans=[scan for scan in self.found.scans if self.splits[scan.id] in splits])


def members_of(cohort: Cohort, selection: SelectionConfig, folder: Path, progress: Progress | None = None) -> Members:
    """Find the scans of a cohort, their masks, splits and labels.

    Args:
        cohort: of the study.
        selection: which files are scans.
        folder: for scans and masks that are made anew, see `derived_scans`; what it holds already is left.
        progress: told of scans that are made anew.

    Raises:
        InputError: no scan, a case of no scan, a split without cases or a split that is none.
        VolumeError: a scan that is to be made anew cannot be read, or has no geometry.
        OutputError: the folder cannot be written.
    """
    found = find_scans([cohort.scans], Selection.of(selection), refused=[])
    rows = _rows(cohort, found)
    splits = {case_id: row["split"] for case_id, row in rows.items() if row.get("split")}
    where = cohort.splits or cohort.scans
    if not splits:
        raise InputError(f"{where}: no column split: the study needs train, val and test of each case")
    if wrong := [case_id for case_id, split in splits.items() if split not in _SPLITS]:
        raise InputError(f"{where}: the split of {wrong[0]} is {splits[wrong[0]]!r}: give {', '.join(_SPLITS)}")
    found = replace(found, scans=[scan for scan in found.scans if scan.id in splits])
    masks = find_masks([scan.id for scan in found.scans], cohort.masks) if cohort.masks else {}
    labels = {case_id: {key: value for key, value in row.items() if key != "split"} for case_id, row in rows.items()}
    members = Members(found, masks, splits, labels)
    if not cohort.pad_at_random and not cohort.slice_thickness:
        return members
    scans, paths = derived_scans(found.scans, masks, cohort, folder, progress)
    return replace(members, found=replace(found, scans=scans), masks=paths)


def write_members(members: Members, ids: Sequence[str], path: Path) -> Path:
    """A CSV with ``id``, ``split`` and labels of some cases, as `featlift.evaluation.read_labels` takes it."""
    columns = list(dict.fromkeys(key for case_id in ids for key in members.labels[case_id]))
    rows = ((case_id, members.splits[case_id], *_values(members.labels[case_id], columns)) for case_id in ids)
    write_table(path, ["id", "split", *columns], rows)
    return path


def _values(labels: Mapping[str, str], columns: Sequence[str]) -> list[str]:
    return [labels.get(key, "") for key in columns]


def _rows(cohort: Cohort, found: DiscoveredScans) -> dict[str, dict[str, str]]:
    """What is known of each case of the cohort that is a scan."""
    own = {scan.id: {key: str(value) for key, value in scan.labels.items()} for scan in found.scans}
    if cohort.splits is None:
        return own
    table = read_table(cohort.splits, ("id", "split"), "a study's splits are a CSV with id,split")
    if not {"id", "split"} <= set(table.names):
        raise InputError(f"{cohort.splits}: give a header such as id,split; it has {', '.join(table.names)}")
    rows = {}
    for row in table.dicts():
        case_id = known_id(row.pop("id").strip(), own)
        if case_id not in own:
            raise InputError(f"{cohort.splits}: {case_id} is no scan in {cohort.scans}")
        rows[case_id] = own[case_id] | {key: value.strip() for key, value in row.items()}
    return rows

"""Files that are called as masks are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from featlift.volumes.discovery.organs import ORGANS
from featlift.volumes.formats import suffix_of
from featlift.volumes.scan import Scan

_WORD = r"(labels?(tr|ts|val)?|masks?|segs?|segmentations?|rois?|gt)"
_FOLDER = re.compile(rf"{_WORD}\d*", re.IGNORECASE)
_AMONG_OTHERS = re.compile(rf"(^|[/_.-]){_WORD}([/_.-]|$)", re.IGNORECASE)


def sounds_like_a_mask(name: str) -> bool:
    """Whether a path has a word of masks anywhere, such as ``p1_seg.nii`` and ``cohort_masks/p1.nii``."""
    return _AMONG_OTHERS.search(_stem(name)) is not None


def is_folder_of_masks(name: str) -> bool:
    """Whether a folder is called as those of masks are, such as ``segmentations`` and ``labelsTr``."""
    return _FOLDER.fullmatch(name) is not None


def masks_by_name(scans: Sequence[Scan]) -> list[Scan]:
    """Which of the scans found in a folder are masks: by their names, and because a scan is left beside each.

    They are files called so (``p1_seg.nii``), files in a folder called so (``segmentations/x.nii``), beside which or
    below whose folder another scan lies; and organs, as TotalSegmentator names them, in the folder of a scan or several
    of them in a folder of their own beside one. DICOM says by itself what it is.
    """
    files = [scan for scan in scans if not scan.sources[0].members]
    homes = {scan.id: _home(scan.name) for scan in files}
    inhabited = {folder for scan in scans if homes.get(scan.id) is None for folder in _folders_above(scan.name)}
    masks = {scan.id for scan in files if homes[scan.id] in inhabited}
    left = [scan for scan in files if scan.id not in masks]
    organs = {scan.id: _folder(scan.name) for scan in left if _stem(scan.name).rpartition("/")[2] in ORGANS}
    beside = {_folder(scan.name) for scan in scans if scan.id not in masks and scan.id not in organs}
    count = Counter(organs.values())
    masks |= {
        case_id
        for case_id, folder in organs.items()
        if folder in beside or (folder and count[folder] > 1 and _folder(folder) in beside)
    }
    return [scan for scan in files if scan.id in masks]


def _home(name: str) -> str | None:
    """The folder whose scans a mask may belong to, None for what is not called as a mask is."""
    *folders, _ = name.split("/")
    for number, folder in enumerate(folders):
        if is_folder_of_masks(folder):
            return "/".join(folders[:number])
    return "/".join(folders) if _AMONG_OTHERS.search(_stem(name).rpartition("/")[2]) else None


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _folders_above(name: str) -> Iterator[str]:
    while name:
        name = _folder(name)
        yield name


def _stem(name: str) -> str:
    return name[: len(name) - len(suffix_of(Path(name)) or "")]

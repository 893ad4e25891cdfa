"""Folders of masks, a file a structure: whose they are."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from featlift.volumes.discovery.organs import ORGANS
from featlift.volumes.discovery.pairing import without_a_folder
from featlift.volumes.discovery.seeming import is_folder_of_masks
from featlift.volumes.mask_files import name_of_structure
from featlift.volumes.source import Source

_PART = re.compile(r"(__(roi|frame)\d+)+$")


def whole_scan(case_id: str) -> str:
    """The id of the scan that a case is a region or a frame of."""
    return _PART.sub("", case_id)


class Reach:
    """Which names of masks mean one of some cases, see `pair_scans`.

    Attributes:
        is_one: whether all are of one scan.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        scans = sorted({whole_scan(case_id) for case_id in ids})
        self.is_one = len(scans) == 1
        self._series = {part: case_id for case_id in reversed(scans) for part in case_id.split("__")[1:]}
        self._names = {
            name[:end]
            for case_id in scans
            for name in (case_id, *without_a_folder(case_id))
            for end in range(1, len(name) + 1)
            if end == len(name) or not name[end].isalnum()
        }

    def __contains__(self, name: str) -> bool:
        return name.replace("/", "__") in self._names

    def of_series(self, digest: str) -> str | None:
        """The case that is a DICOM series, by the digest in its id."""
        return self._series.get(digest)


def by_case(files: Mapping[str, Source], reach: Reach) -> dict[str, Source]:
    """Masks by case, the files of a folder that is called after a case together as one mask of it.

    Of ``s1/liver.nii.gz`` and ``s1/segmentations/spleen.nii.gz`` the folders are called after the case ``s1``, unless
    the files themselves are. One file of the same name in every such folder is a mask of labels as it is.

    Args:
        files: masks by what their paths share with those of scans, "/" between folders.
        reach: the cases.

    Returns:
        Masks by case; a folder's has `Source.labels`, all 0.
    """
    folders: dict[str, dict[str, Source]] = defaultdict(dict)
    whole = {name for name in files if name in reach}
    inhabited = {name.rpartition("/")[0] for name in whole}
    for name, source in files.items():
        folder, _, file = name.rpartition("/")
        beside_others = folder in inhabited and file not in ORGANS
        if name in whole or beside_others or source.members or source.key or not isinstance(source.path, Path):
            continue
        case = "/".join(part for part in folder.split("/") if not is_folder_of_masks(part))
        folders[case][name] = source
    of_cases = {folder for folder in folders if folder in reach}
    if reach.is_one and list(folders) == [""] and len(folders[""]) > 1:
        of_cases = {""}
    if not of_cases:
        return dict(files)
    stems = {name.rpartition("/")[2] for folder in of_cases for name in folders[folder]}
    if len(stems) == 1 and not stems <= ORGANS:
        masks = {folder: next(iter(folders[folder].values())) for folder in of_cases}
    else:  # those of others count too: a name has one label whichever cases are asked for
        masks = {folder: together(list(group.values())) for folder, group in folders.items()}
    grouped = {name for folder in masks for name in folders[folder]}
    scans = {name for name in whole if name.rpartition("/")[0] in masks}  # beside which their masks lie
    return {name: source for name, source in files.items() if name not in grouped and name not in scans} | masks


def together(files: list[Source]) -> Source:
    """The files of structures as one mask."""
    paths = [Path(source.path) for source in files]  # type: ignore[arg-type]
    root = Path(os.path.commonpath([path.parent for path in paths]))
    members = tuple(sorted(path.relative_to(root).as_posix() for path in paths))
    return Source(root, members=members, labels=tuple((name_of_structure(member), 0) for member in members))

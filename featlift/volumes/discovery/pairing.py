"""Which mask belongs to which scan, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from featlift.errors import InputError
from featlift.names import file_names
from featlift.volumes.formats import suffix_of
from featlift.volumes.scan import Scan
from featlift.volumes.source import Source

Mask = TypeVar("Mask")

_BY_ID = "say whose it is in a CSV with id,path, as --masks"


def pair(ids: Iterable[str], masks: Mapping[str, Mask]) -> dict[str, Mask]:
    """Give each case the mask of its id, or of the longest id that its own begins with and no case has.

    So ``lung1_image`` and ``ct__1a2b3c4d`` find the masks ``lung1`` and ``ct``; of the cases ``p1`` and ``p1_later``
    only the first finds the mask ``p1``. Files that featlift wrote for cases of other names than their ids are found.

    Args:
        ids: case ids.
        masks: by the id that their file name gives.

    Returns:
        The mask of every case that has one.
    """
    cases = file_names(ids)
    pairs = {case_id: masks[each] for case_id, name in cases.items() for each in (name, case_id) if each in masks}
    taken = {*cases, *cases.values()}
    others = [name for name in masks if name not in taken]
    for case_id in cases:
        names = [name for name in others if _begins_with(case_id, name)]
        if names and case_id not in pairs:
            pairs[case_id] = masks[max(names, key=len)]  # p1_2 rather than p1
    return pairs


def _begins_with(case_id: str, name: str) -> bool:
    return case_id.startswith(name) and not case_id[len(name)].isalnum()


def pair_scans(scans: Sequence[Scan], masks: Mapping[str, Source]) -> dict[str, Source]:
    """Give each scan its mask, by id, or by the id without a folder: masks may lie in a folder of their own.

    Args:
        scans: to find masks for.
        masks: by the id that their path gives.

    Returns:
        By id, the mask of every scan that has one.

    Raises:
        InputError: a scan could have several, or one could be of scans in different folders.
    """
    pairs = pair([scan.id for scan in scans], masks)
    paired = set(pairs.values())
    others = {name: mask for name, mask in masks.items() if mask not in paired}
    owners: dict[Source, Scan] = {}
    for scan in scans:
        found = [] if scan.id in pairs else list(dict.fromkeys(pair(without_a_folder(scan.id), others).values()))
        if len(found) > 1:
            raise InputError(f"{scan.name} could have the mask {found[0].path} or {found[1].path}: {_BY_ID}")
        for mask in found:
            owner = owners.setdefault(mask, scan)
            if owner.name.rpartition("/")[0] != scan.name.rpartition("/")[0]:
                raise InputError(f"{mask.path} could be the mask of {owner.name} or {scan.name}: {_BY_ID}")
            pairs[scan.id] = mask
    return pairs


def without_a_folder(case_id: str) -> list[str]:
    """A case id without one of its folders, whichever: masks may lie in a folder of their own."""
    parts = case_id.split("__")
    return ["__".join(parts[:number] + parts[number + 1 :]) for number in range(len(parts) - 1)]


def shared_part(name: str, pattern: str) -> str:
    """What of a mask's path its scan has too: the folder, and what ``*`` stands for.

    So for ``*_label.nrrd`` it is ``p1/lung`` of ``p1/lung_label.nrrd``, for ``seg.nii`` it is ``p1`` of ``p1/seg.nii``,
    and for ``labelsTr/*``, which has a folder itself, ``h_1`` of ``labelsTr/h_1.nii.gz``.
    """
    folder, _, file = ("", "", name) if "/" in pattern else name.rpartition("/")
    stars = re.escape(_stem(pattern)).replace(r"\*", "(.*)").replace(r"\?", ".")
    found = re.fullmatch(stars, _stem(file))
    return "/".join(part for part in (folder, *(found.groups() if found else [_stem(file)])) if part)


def _stem(name: str) -> str:
    suffix = suffix_of(Path(name)) or (".*" if name.endswith(".*") else "")
    return name[: len(name) - len(suffix)]

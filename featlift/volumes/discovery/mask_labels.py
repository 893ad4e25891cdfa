"""Masks that name their structures: one label for one name in all of them; and the mask that one place holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from featlift.errors import InputError
from featlift.volumes.discovery.dicom_masks import dicom_masks
from featlift.volumes.discovery.files import in_dicom, is_dicom, walk
from featlift.volumes.discovery.organs import ORGANS
from featlift.volumes.discovery.structures import Reach, together
from featlift.volumes.formats import suffix_of
from featlift.volumes.label_names import Names
from featlift.volumes.mask_files import name_of_structure, segments_in
from featlift.volumes.scan import Scan, Selection
from featlift.volumes.source import Source, as_mask

_LISTED = 8


def numbered(masks: Mapping[str, Source], names: Names | None = None) -> dict[str, Source]:
    """Masks with one label for one name.

    Labels are those of the files where all agree on what each is called; else names are counted from 1 in their order.

    Args:
        masks: by case.
        names: of labels; structures of other names are left out, and cases without any. Where no structure has one of
            them, they are other names for the files' own labels.

    Raises:
        InputError: no structure has one of the names, and the files have no labels of their own.
    """
    pairs = {pair for mask in masks.values() for pair in mask.labels or ()}
    called = sorted({name for name, _ in pairs})
    have_own = len(pairs) == len(called) == len({label for _, label in pairs}) and all(label > 0 for _, label in pairs)
    wanted = {name.casefold(): label for label, name in (names or {}).items()}
    labels = {name: wanted[name.casefold()] for name in called if name.casefold() in wanted}
    if not labels and have_own:
        labels = dict(pairs)
    elif not labels and names:
        raise InputError(
            f"no structure of the masks is called {_some(list(names.values()))}: they are {_some(called)}; give their "
            "names and labels as --label-names"
        )
    elif not labels:
        labels = {name: number for number, name in enumerate(called, start=1)}
    found = {}
    for case_id, mask in masks.items():
        chosen = {name: labels[name] for name, _ in mask.labels or () if name in labels}
        if chosen or not mask.labels:
            found[case_id] = replace(mask, labels=tuple(chosen.items())) if chosen else mask
    return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"


def with_segments(mask: Source) -> Source:
    """A mask with the segments that 3D Slicer names in its header, if it is one of its."""
    path = mask.path
    if not isinstance(path, Path) or suffix_of(path) not in (".nrrd", ".nhdr") or mask.labels is not None:
        return mask
    try:
        segments = segments_in(path)
    except OSError:
        return mask  # reading it will say what is wrong
    own = {segment.name: segment.value for segment in segments}
    shared = len({segment.value for segment in segments}) < len(segments)  # in layers, or of one name
    return replace(mask, labels=tuple((name, 0 if shared else value) for name, value in own.items())) if own else mask


def mask_at(path: Path) -> Source | None:
    """The mask that a file or a folder holds in a way that only masks have; None where it is an image.

    Raises:
        InputError: contours whose series is not beside them.
    """
    if suffix_of(path):
        found = [with_segments(Source(path))]
    elif path.is_dir() and (images := [path / name for name in walk(path) if suffix_of(Path(name))]):
        is_plain = len(images) == 1 and name_of_structure(images[0].name) not in ORGANS
        found = [as_mask(with_segments(Source(images[0])))] if is_plain else [together(list(map(Source, images)))]
    elif path.exists():
        found = list(dicom_masks(path, "*", partial(_series_around, path), Reach(()), []).values())
    else:
        return None
    (mask, *others) = found or [Source(path)]
    return None if others or mask.labels is None else numbered({"": mask})[""]


def _series_around(path: Path) -> list[Scan]:
    """The DICOM series in a folder, or beside a file."""
    root = path if path.is_dir() else path.parent
    files = [name for name in walk(root) if not suffix_of(Path(name)) and is_dicom(root / name)]
    return list(in_dicom(root, "", files, Selection(), []))

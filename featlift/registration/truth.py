"""What registered pairs are scored against: masks and landmarks of both scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from featlift.checksums import sha256_of_file
from featlift.errors import InputError, OptionError, VolumeError
from featlift.registration.landmarks import Landmarks, read_landmarks
from featlift.registration.pair_list import of_pair
from featlift.registration.slices import read_any_mask
from featlift.store.layout import sha256_of
from featlift.volumes import find_masks
from featlift.volumes.label_names import names_in
from featlift.volumes.masks import labels_on
from featlift.volumes.source import MaskFile, Source
from featlift.volumes.volume import Volume

_MOST_LABELS = 256  # a scan taken for a mask has more values

Place = str | Path


@dataclass(frozen=True)
class TruthFiles:
    """Of a pair, first those of the fixed scan; empty where one of the two has none.

    Attributes:
        masks: two, or none.
        landmarks: two, or none.
    """

    masks: tuple[MaskFile, ...] = ()
    landmarks: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class Truth:
    """Of a pair, read.

    Attributes:
        masks: of the fixed and of the moving scan, or none.
        labels: to score.
        landmarks: of the fixed and of the moving scan, or none.
        sha256: of all these files.
    """

    masks: tuple[Volume, ...]
    labels: tuple[int, ...]
    landmarks: tuple[Landmarks, ...]
    sha256: str


def find_truth(
    ends: Mapping[str, tuple[str, str]],
    masks: Place | None,
    pattern: str | None,
    landmarks: Place | None,
    moving_masks: Place | None = None,
) -> dict[str, TruthFiles]:
    """The masks and landmarks of each pair that has some of both scans.

    Args:
        ends: ids of the two cases, by the id of the pair.
        masks: of the cases, see `featlift.find_masks`; None for none.
        pattern: files that are masks.
        landmarks: folder of a CSV for each case, ``<id>.csv``; None for none.
        moving_masks: of the moving cases, where they lie elsewhere.

    Raises:
        InputError: no pair has any.
        OptionError: neither masks nor landmarks, or those of both scans of a pair would be one file.
    """
    if masks is None and landmarks is None:
        raise OptionError("nothing to score by: give --masks, --landmarks, or both")
    alike = next((pair_id for pair_id, (fixed, moving) in ends.items() if fixed == moving), None)
    if alike is not None and (landmarks is not None or moving_masks is None):
        raise OptionError(
            f"{alike}: both scans have one id, so one file would be that of both: give --moving-masks, and no landmarks"
        )
    of_fixed: Mapping[str, MaskFile] = {}
    of_moving: Mapping[str, MaskFile] = {}
    if masks is not None:
        fixed_ids, moving_ids = (sorted({each[end] for each in ends.values()}) for end in (0, 1))
        of_fixed = find_masks(fixed_ids, masks, pattern)
        of_moving = find_masks(moving_ids, moving_masks or masks, pattern, names_in(of_fixed.values()) or None)
    found = {}
    for pair_id, (fixed, moving) in ends.items():
        both = (of_fixed[fixed], of_moving[moving]) if fixed in of_fixed and moving in of_moving else ()
        tables = () if landmarks is None else (Path(landmarks, f"{fixed}.csv"), Path(landmarks, f"{moving}.csv"))
        if not all(table.exists() for table in tables):
            tables = ()
        if both or tables:
            found[pair_id] = TruthFiles(both, tables)
    if not found:
        raise InputError(f"no pair of {len(ends)} has masks or landmarks of both scans: they are named as the cases")
    return found


def labels_in_common(truths: Mapping[str, TruthFiles], wanted: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The labels that both masks of each pair hold.

    Args:
        truths: by pair.
        wanted: only these; none takes all.

    Raises:
        VolumeError: a mask that is none, or a pair whose masks have no label in common.
    """
    labels_of = cache(_labels_of)
    found: dict[str, tuple[int, ...]] = {}
    for pair_id, files in truths.items():
        if not files.masks:
            found[pair_id] = ()
            continue
        with of_pair(pair_id):
            of_fixed, of_moving = map(labels_of, files.masks)
            both = of_fixed & of_moving & (frozenset(wanted) or of_fixed)
            if not both:
                among = f"of {_listed(wanted)}, " if wanted else ""
                raise VolumeError(
                    f"its masks have no label in common: {among}one holds {_listed(of_fixed)} and the other "
                    f"{_listed(of_moving)}"
                )
            found[pair_id] = tuple(sorted(both))
    return found


def read_truth(files: TruthFiles, labels: tuple[int, ...], ras: bool = False) -> Truth:
    """Masks and landmarks of a pair.

    Raises:
        VolumeError: a mask does not say where it lies.
        InputError: a table that holds no landmarks.
    """
    masks = tuple(read_any_mask(mask) for mask in files.masks)
    for name, mask in zip(("fixed", "moving"), masks, strict=False):
        if mask.affine is None:
            raise VolumeError(f"the mask of the {name} scan does not say where it lies (no affine)")
    checksums = [(mask.source or {}).get("sha256") for mask in masks]
    checksums += [sha256_of_file(path) for path in files.landmarks]
    return Truth(masks, labels, tuple(read_landmarks(path, ras) for path in files.landmarks), sha256_of(checksums))


def _labels_of(file: MaskFile) -> frozenset[int]:
    """The labels of a mask, background aside."""
    mask = read_any_mask(file)
    depth, height, width = mask.array.shape
    values = np.unique(labels_on(mask, (depth, height, width), None))
    if values.min() < 0 or len(values) > _MOST_LABELS:
        place = file.path if isinstance(file, Source) else Path(file)
        raise VolumeError(f"{place.name} is no mask: its values are those of a scan; give --mask-pattern")
    return frozenset(values.tolist()) - {0}


def _listed(labels: Sequence[int] | frozenset[int]) -> str:
    return ", ".join(map(str, sorted(labels)))

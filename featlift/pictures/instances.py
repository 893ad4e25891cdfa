"""Masks of instances in pictures: a colour for every id, and what is split or merged against true ones."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.counting import number_of
from featlift.errors import VolumeError
from featlift.metrics.instances import LEAST_SHARE, overlaps, splits_and_merges
from featlift.store.case import Case
from featlift.store.objects import ids_in, on_scan, read_objects, renumbered
from featlift.volumes.source import MaskFile

#: Ids of no object: 2^64 - 1 is none in CREMI's files.
NO_OBJECT = (0, 2**64 - 1)

#: What rows and layers are called, and outlines in them.
FOUND, TRUE = "instances", "true instances"
SPLIT, MERGED = "true, split", "found, merges several"
_OUTLINES = {SPLIT: ("#ffe600", 2.0), MERGED: ("#ff2fd0", 1.0)}  # where both lie on one border, both are seen

_LIGHTNESS, _CHROMA = (52.0, 68.0, 84.0), 58.0  # of CIELAB


@dataclass(frozen=True)
class InstanceFiles:
    """The mask of found objects of a case, and that of the true ones, None for none."""

    found: MaskFile
    truth: MaskFile | None = None


@dataclass(frozen=True, eq=False)
class InstanceMap:
    """The objects of a mask on the voxels of a stored scan.

    Attributes:
        numbers: ``(D, H, W)`` of the smallest type that holds them: n for the n-th id, from 1; 0 for no object.
        ids: ``(N,)``, in order.
    """

    numbers: NDArray[Any]
    ids: NDArray[np.uint64]

    @classmethod
    def of(cls, case: Case, file: MaskFile) -> InstanceMap:
        """Read the mask of a case.

        Raises:
            VolumeError: see `read_objects`; or it has no object in the scan.
            InputError: it is missing.
        """
        mask = read_objects(case, file)
        held = ids_in(mask.array)
        is_object = ~np.isin(held, np.array(NO_OBJECT, np.uint64))
        numbers = np.where(is_object, np.cumsum(is_object), 0).astype(np.min_scalar_type(int(is_object.sum())))
        found = on_scan(case, renumbered(mask.array, held, numbers), mask.affine)
        if not found.any():
            raise VolumeError("a mask of instances without an object in the scan: are they of one patient?")
        return cls(found, held[is_object])

    @cached_property
    def count(self) -> int:
        """How many objects lie in the scan; the mask may have others."""
        return len(ids_in(self.numbers)) - int((self.numbers == 0).any())

    @cached_property
    def colours(self) -> NDArray[np.uint8]:
        """``(N + 1, 4)``: red, green, blue and alpha of every number, 0 transparent."""
        transparent = np.zeros((1, 4), np.uint8)
        return np.concatenate([transparent, np.insert(colours_of(self.ids), 3, 255, axis=1)])


@dataclass(frozen=True, eq=False)
class Marked:
    """Objects of a kind of error, which are outlined.

    Attributes:
        kind: `SPLIT` for true objects that lie in several found ones, `MERGED` for found ones that span several true.
        map: whose objects they are.
        numbers: of these in the map.
    """

    kind: str
    map: InstanceMap
    numbers: NDArray[Any]

    @property
    def colour(self) -> str:
        """Of the outlines."""
        return _OUTLINES[self.kind][0]

    @property
    def width(self) -> float:
        """Of the outlines, to those of other kinds."""
        return _OUTLINES[self.kind][1]

    def within(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Of a plane of the map these objects alone, 0 elsewhere."""
        return np.where(np.isin(numbers, self.numbers), numbers, 0)


@dataclass(frozen=True, eq=False)
class Segmented:
    """The objects of a case.

    Attributes:
        maps: found ones and, if there is a truth, true ones, by the name of their row or layer.
        marked: of each kind of error, none without a truth.
    """

    maps: Mapping[str, InstanceMap]
    marked: Sequence[Marked] = ()

    @classmethod
    def of(cls, case: Case, files: InstanceFiles) -> Segmented:
        """Read and compare the masks of a case; raises as `InstanceMap.of`."""
        found = InstanceMap.of(case, files.found)
        if files.truth is None:
            return cls({FOUND: found})
        truth = InstanceMap.of(case, files.truth)
        split, merged = splits_and_merges(overlaps(truth.numbers, found.numbers, ignored=()))
        return cls({FOUND: found, TRUE: truth}, (Marked(SPLIT, truth, split), Marked(MERGED, found, merged)))

    def __str__(self) -> str:
        """What a caption says: how many there are, and of how many what is wrong."""
        counts = number_of(self.maps[FOUND].count, "instance")
        if not self.marked:
            return counts
        split, merged = (len(each.numbers) for each in self.marked)
        true = self.maps[TRUE].count
        return (
            f"{counts}, {merged:,} of them merge several true ones; {split:,} of {true:,} true ones are split "
            f"(parts of less than {100 * LEAST_SHARE:.0f} % of the smaller object do not count)"
        )


def colours_of(ids: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """A colour for every id, by the id alone, so that an object has the same one in every picture.

    In CIELAB. The hue turns by the golden ratio from id to id, so that ids that follow one another, as neighbours often
    do, are far apart; the lightness is one of three, by SplitMix64 (Steele et al. 2014, OOPSLA: 453-472).

    Args:
        ids: ``(N,)``.

    Returns:
        ``(N, 3)``: red, green and blue.
    """
    from skimage.color import lab2rgb

    turned = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 of a turn; it wraps, as all that follows
    hue = (turned >> np.uint64(40)).astype(np.float64) * (2 * np.pi / (1 << 24))
    mixed = turned
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    lightness = np.array(_LIGHTNESS)[(mixed ^ (mixed >> np.uint64(31))) % np.uint64(len(_LIGHTNESS))]
    lab = np.stack([lightness, _CHROMA * np.cos(hue), _CHROMA * np.sin(hue)], axis=-1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*negative Z")  # colours that no screen has: the nearest it has
        return np.asarray(np.rint(255 * np.clip(lab2rgb(lab), 0, 1)), np.uint8)

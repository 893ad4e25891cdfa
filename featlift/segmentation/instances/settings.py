"""What a head of affinities learns, and how objects are made of what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from featlift.errors import OptionError
from featlift.segmentation.instances.affinities import LONG_RANGE, NEIGHBOURS, Offset

Offsets = Literal["neighbours", "long-range"]

#: ``mean`` and ``median``: waterz, see `featlift.segmentation.instances.agglomeration`. ``mutex``: see its module.
Agglomeration = Literal["mean", "median", "mutex"]

_LARGEST_ID = 2**64 - 1


@dataclass(frozen=True)
class AffinitySettings:
    """Settings of a head of affinities.

    Attributes:
        offsets: ``neighbours``, the 3 before a voxel, or ``long-range``, 12 of them.
        widen: learn gaps between objects, without which fragments leak, see `widened`.
        ignore: ids of the labels that say nothing; pairs with such an end do not count. 0 is background, which counts.
        agglomeration: how objects are made; its threshold is chosen on validation cases.
    """

    offsets: Offsets = "neighbours"
    widen: bool = True
    ignore: tuple[int, ...] = ()
    agglomeration: Agglomeration = "mean"

    def __post_init__(self) -> None:
        if self.offsets not in get_args(Offsets):
            raise OptionError(f"offsets {self.offsets!r}: choose {' or '.join(get_args(Offsets))}")
        check_agglomeration(self.agglomeration, self.offsets)
        if self.ignore and not 0 < min(self.ignore) <= max(self.ignore) <= _LARGEST_ID:
            listed = ",".join(map(str, self.ignore))
            raise OptionError(f"--ignore {listed}: ids are from 1 to 2^64 - 1; 0 is background")

    @property
    def vectors(self) -> tuple[Offset, ...]:
        """The offsets of the channels."""
        return LONG_RANGE if self.offsets == "long-range" else NEIGHBOURS


def check_agglomeration(by: str, offsets: str) -> None:
    """Refuse an unknown one, one whose package is missing, and the mutex watershed of neighbours alone.

    Raises:
        OptionError: any of these.
    """
    if by not in get_args(Agglomeration):
        raise OptionError(f"agglomeration {by!r}: choose {', '.join(get_args(Agglomeration))}")
    if by == "mutex" and offsets != "long-range":
        raise OptionError("the mutex watershed splits by long offsets: train with --offsets long-range")
    try:
        __import__("mwatershed" if by == "mutex" else "waterz")
    except ImportError as error:
        raise OptionError(f"--agglomeration {by} needs a package: pip install 'featlift[em]'") from error

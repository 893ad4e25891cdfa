"""How long a cohort will take, from one scan that is lifted for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featlift.extraction.extraction import Extraction
from featlift.volumes import Scan
from featlift.volumes.survey import Surveyed


@dataclass(frozen=True)
class Measured:
    """One scan that was lifted for the time that it takes.

    Attributes:
        id: of the scan.
        seconds: by stage: read, prepare, lift.
        all_seconds: of all scans one after the other, if each took as long for its voxels.
    """

    id: str
    seconds: dict[str, float]
    all_seconds: float


def measure_lifting(extraction: Extraction, scans: Sequence[Scan], usable: Sequence[Surveyed]) -> Measured:
    """Lift the scan of median size, twice: the first pass also warms the device up.

    Args:
        extraction: network and preparation.
        scans: of the cohort.
        usable: those of them that would not fail; at least one.

    Raises:
        VolumeError: it cannot be lifted after all.
    """
    median = sorted(usable, key=_voxels)[len(usable) // 2]
    scan = next(scan for scan in scans if scan.id == median.id)
    seconds: dict[str, float] = {}
    for _ in range(2):
        extraction.of_scan(scan, seconds)
    share = sum(map(_voxels, usable)) / _voxels(median)
    return Measured(scan.id, seconds, sum(seconds.values()) * share)


def _voxels(row: Surveyed) -> int:
    return math.prod(row.lifted_shape or ())

"""What lifting a cohort will cost, before it is lifted: bytes in the store, and seconds where they are measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featlift.extraction.extraction import Extraction
from featlift.lifting import LiftedBackbone
from featlift.volumes import Scan
from featlift.volumes.grid import padding_to
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


def bytes_in_store(lifted: LiftedBackbone, row: Surveyed) -> int:
    """Bytes of a volume in the store, to within its metadata."""
    assert row.lifted_shape is not None
    depth, height, width = row.lifted_shape
    down, right = padding_to(row.lifted_shape, lifted.stride)
    total = 2 * row.channels * _in_chunks((depth, height, width), (16, 256, 256))
    tokens = len(lifted.backbone.token_names)
    for layer in lifted.layers:
        stride = layer.sampling.stride
        cells = depth, (height + down) // stride, (width + right) // stride
        total += 2 * layer.channels * _in_chunks(cells, (8, 8, 8))
        total += layer.channels * ((1 if lifted.mode == "3d" else depth) * tokens * 2 + depth * 4)
    return total


def _in_chunks(shape: tuple[int, int, int], chunk: tuple[int, int, int]) -> int:
    """Voxels or cells of an array whose outermost chunks are as large as the others."""
    sides = [min(n, side) for n, side in zip(shape, chunk, strict=True)]
    return math.prod(-(-n // side) * side for n, side in zip(shape, sides, strict=True))


def _voxels(row: Surveyed) -> int:
    return math.prod(row.lifted_shape or ())

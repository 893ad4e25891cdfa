"""How long a cohort will take, from one scan that is lifted for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from featlift.lifting import LiftedBackbone
from featlift.volumes import Preparation, Reading, Scan, prepare
from featlift.volumes.channels import read_scan
from featlift.volumes.grid import pad, padding_to
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


def measure_lifting(
    lifted: LiftedBackbone,
    scans: Sequence[Scan],
    usable: Sequence[Surveyed],
    preparation: Preparation,
    reading: Reading,
) -> Measured:
    """Read, prepare and lift the scan of median size.

    Args:
        lifted: the network, on its device.
        scans: of the cohort.
        usable: those of them that would not fail; at least one.
        preparation: what happens before lifting.
        reading: how far reading may go.

    Raises:
        VolumeError: it cannot be read or prepared after all.
        LiftingMemoryError: it does not fit the device.
    """
    median = sorted(usable, key=_voxels)[len(usable) // 2]
    scan = next(scan for scan in scans if scan.id == median.id)
    started = perf_counter()
    volume = read_scan(scan, reading)
    seconds = {"read": perf_counter() - started}
    started = perf_counter()
    prepared = prepare(volume, preparation, scan.centre)
    padded = torch.from_numpy(pad(prepared.scan, padding_to(prepared.shape, lifted.stride)))[None]
    seconds["prepare"] = perf_counter() - started
    for _ in range(2):  # the first pass warms the device up
        started = perf_counter()
        with torch.inference_mode():
            lifted(padded.to(lifted.backbone.device)).dense.cpu()
        seconds["lift"] = perf_counter() - started
    share = sum(map(_voxels, usable)) / _voxels(median)
    return Measured(scan.id, seconds, sum(seconds.values()) * share)


def _voxels(row: Surveyed) -> int:
    return math.prod(row.lifted_shape or ())

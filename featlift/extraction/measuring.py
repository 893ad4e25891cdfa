"""How long a cohort will take, from one scan that is lifted for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from featlift.lifting import VolumeEncoder
from featlift.timing import timed
from featlift.volumes import Preparation, Reading, Scan
from featlift.volumes.grid import pad, padding_to
from featlift.volumes.loading import load
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
    encoder: VolumeEncoder,
    scans: Sequence[Scan],
    usable: Sequence[Surveyed],
    preparation: Preparation,
    reading: Reading,
) -> Measured:
    """Read, prepare and lift the scan of median size.

    Args:
        encoder: the network, on its device.
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
    loaded = load(scan, preparation, reading)
    seconds = {**loaded.seconds}
    with timed(seconds, "prepare"):
        prepared = loaded.prepared
        padded = torch.from_numpy(pad(prepared.scan, padding_to(prepared.shape, encoder.size_multiple)))[None]
    for _ in range(2):  # the first pass warms the device up
        lifting: dict[str, float] = {}
        with timed(lifting, "lift"), torch.inference_mode():
            encoder(padded.to(encoder.device)).dense.cpu()
    seconds |= lifting
    share = sum(map(_voxels, usable)) / _voxels(median)
    return Measured(scan.id, seconds, sum(seconds.values()) * share)


def _voxels(row: Surveyed) -> int:
    return math.prod(row.lifted_shape or ())

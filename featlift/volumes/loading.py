"""A scan read and prepared: all that happens to it before a network is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from featlift.timing import timed
from featlift.volumes.channels import read_scan
from featlift.volumes.opening import Reading
from featlift.volumes.preparation import Preparation, Prepared, prepare
from featlift.volumes.scan import Scan
from featlift.volumes.volume import Volume


@dataclass(frozen=True, eq=False)
class Loaded:
    """A scan, ready for lifting; the voxels as read are no longer held.

    Attributes:
        scan: where it came from.
        prepared: what the backbone will see.
        source: what identifies its files, see `Volume.source`.
        modality: if the file says.
        notes: what was done to read it, see `Volume.notes`.
        seconds: wall time of ``read`` and ``prepare``.
    """

    scan: Scan
    prepared: Prepared
    source: dict[str, Any] | None
    modality: str | None
    notes: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


def load(scan: Scan, preparation: Preparation, reading: Reading | None = None) -> Loaded:
    """Read and prepare a scan.

    Raises:
        InputError: a file is missing.
        VolumeError: a file cannot be read, or the volume cannot be prepared.
    """
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        volume = read_scan(scan, reading, preparation.channels or "edge")
    return prepared_for_lifting(scan, volume, preparation, seconds)


def prepared_for_lifting(
    scan: Scan, volume: Volume, preparation: Preparation, seconds: dict[str, float] | None = None
) -> Loaded:
    """Prepare a volume that was read; raises VolumeError if it cannot be."""
    seconds = {} if seconds is None else seconds
    with timed(seconds, "prepare"):
        prepared = prepare(volume, preparation, scan.centre)
    return Loaded(scan, prepared, volume.source, volume.modality, volume.notes, seconds)

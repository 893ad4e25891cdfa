"""Scans as the network sees them, kept in memory where they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featlift.errors import FeatliftError, VolumeError
from featlift.progress import Progress, counted
from featlift.volumes import Preparation, Prepared, Reading, Scan, read_mask
from featlift.volumes.loading import load
from featlift.volumes.masks import labels_on
from featlift.volumes.source import MaskFile

_KEPT = 4 << 30  # bytes of volumes held in memory; what is beyond them is read each time


@dataclass(frozen=True, eq=False)
class Sample:
    """A prepared scan, perhaps with its labels.

    Attributes:
        scan: what the network sees of it.
        labels: of each voxel ``(D, H, W)``; None where they were not asked for.
    """

    scan: Prepared
    labels: NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class Scans:
    """Reads and prepares scans.

    Attributes:
        scans: by id.
        preparation: what happens to them.
        reading: how far reading may go.
        masks: the path of the mask of each case, by its id; empty for classification.
    """

    scans: Mapping[str, Scan]
    preparation: Preparation
    reading: Reading
    masks: Mapping[str, MaskFile] = field(default_factory=dict)
    _kept: dict[str, Sample] = field(default_factory=dict)

    def __getitem__(self, case_id: str) -> Sample:
        """One of them.

        Raises:
            VolumeError: it, or its mask, cannot be read or prepared; the error names the case.
        """
        if case_id in self._kept:
            return self._kept[case_id]
        try:
            prepared = load(self.scans[case_id], self.preparation, self.reading).prepared
            labels = None
            if case_id in self.masks:
                labels = labels_on(read_mask(self.masks[case_id]), prepared.shape, prepared.affine)
            return Sample(prepared, labels)
        except FeatliftError as error:
            raise VolumeError(f"{case_id}: {error}") from error

    def keep(self, ids: Sequence[str], progress: Progress | None = None) -> dict[str, list[int]]:
        """Read all that take part once, and keep as many as fit; what is wrong with one is told now.

        Returns:
            Of each, the labels that its mask holds on the prepared voxels; empty without a mask.
        """
        return {
            case_id: [] if sample.labels is None else np.unique(sample.labels).tolist()
            for case_id, sample in self.each(ids, progress)
        }

    def each(self, ids: Sequence[str], progress: Progress | None = None) -> Iterator[tuple[str, Sample]]:
        """Read all that take part once, one after the other, and keep as many as fit."""
        held = 0
        for case_id in counted(ids, "reading", progress):
            sample = self[case_id]
            held += sample.scan.scan.nbytes + (0 if sample.labels is None else sample.labels.nbytes)
            if held < _KEPT:
                self._kept[case_id] = sample
            yield case_id, sample

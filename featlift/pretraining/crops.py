"""Cubes cut from scans at random, of which not too much is background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.progress import Progress
from featlift.training.scans import Scans
from featlift.volumes import Prepared
from featlift.volumes.grid import resample
from featlift.volumes.volume import Affine, scaled

_TRIES = 100  # after which the brightest of them is taken; a scan all of whose are background is refused before
_THINNEST = 4  # a scan is grown so many times at most


@dataclass(frozen=True, eq=False)
class Crop:
    """A cube of a scan.

    Attributes:
        voxels: ``(N, N, N)`` float32.
        affine: of the voxels, None where the scan does not say.
        background: share of the voxels that are background.
    """

    voxels: NDArray[np.float32]
    affine: Affine | None
    background: float


@dataclass(frozen=True, eq=False)
class Crops:
    """Cubes of scans.

    A scan that is shorter than the cube along some axis is grown, equally along all axes, until it holds one; what
    would be cut off again is not computed.

    Attributes:
        scans: prepared, by id.
        side: N of the cubes in voxels.
        most: share of a cube that may be background.
        dark: voxels are background up to this part of their scan's range.
        floors: the brightest background of each scan that was kept.
    """

    scans: Scans
    side: int
    most: float
    dark: float
    floors: dict[str, float] = field(default_factory=dict)

    def keep(self, ids: Sequence[str], seed: int, progress: Progress | None = None) -> int:
        """Read all scans once; what is wrong with one is told now.

        Returns:
            How many of them are grown.

        Raises:
            VolumeError: a scan cannot be read, has several channels, is too thin, or is background wherever one looks.
        """
        grown = 0
        for case_id, sample in self.scans.each(ids, progress):
            prepared = sample.scan
            self._check(case_id, prepared)
            low, high = float(prepared.scan.min()), float(prepared.scan.max())
            self.floors[case_id] = low + self.dark * (high - low)
            grown += min(prepared.shape) < self.side
            share = self._drawn(case_id, prepared, np.random.default_rng(seed)).background
            if share > self.most:
                raise VolumeError(
                    f"{case_id}: of {_TRIES} cubes of {self.side} voxels none is less than {100 * share:.3g} % "
                    "background: leave it out, or see --background, --dark, --spacing and --intensity"
                )
        return grown

    def drawn(self, case_id: str, draw: np.random.Generator) -> Crop:
        """A cube at a random place, of some of which the first that is not mostly background is taken."""
        return self._drawn(case_id, self.scans[case_id].scan, draw)

    def _drawn(self, case_id: str, prepared: Prepared, draw: np.random.Generator) -> Crop:
        side = min(self.side, *prepared.shape)
        best: tuple[float, Sequence[int]] | None = None
        for _ in range(_TRIES):
            corner = draw.integers([size - side + 1 for size in prepared.shape]).tolist()
            share = float((_cut(prepared.scan[0], corner, side) <= self.floors[case_id]).mean())
            if best is None or share < best[0]:
                best = share, corner
            if share <= self.most or side == max(prepared.shape):
                break
        assert best is not None
        share, corner = best
        part = np.ascontiguousarray(_cut(prepared.scan[0], corner, side))
        affine = None if prepared.affine is None else scaled(prepared.affine, (1, 1, 1), tuple(corner))
        (voxels,), affine = resample(part[None], affine, (self.side,) * 3)
        return Crop(voxels, affine, share)

    def _check(self, case_id: str, prepared: Prepared) -> None:
        if len(prepared.scan) > 1:
            raise VolumeError(f"{case_id}: it has {len(prepared.scan)} channels, pretraining takes one")
        thinnest = min(prepared.shape)
        if thinnest * _THINNEST < self.side:
            raise VolumeError(
                f"{case_id}: {' x '.join(map(str, prepared.shape))} voxels would be grown {self.side / thinnest:.2g} "
                f"times to hold a cube of {self.side}, and {_THINNEST} is the most: give a finer --spacing or a "
                "smaller --side, or leave it out"
            )


def _cut(scan: NDArray[np.float32], corner: Sequence[int], side: int) -> NDArray[np.float32]:
    d, h, w = (slice(first, first + side) for first in corner)
    return scan[d, h, w]

"""DICOM segmentations (PS3.3 A.51): binary, fractional and label maps, their frames placed by their geometry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from featlift.errors import VolumeError
from featlift.volumes.dicom.headers import reading
from featlift.volumes.dicom.likeness import check_alike, normal_of
from featlift.volumes.dicom.pixels import load_slices
from featlift.volumes.dicom.slices import Slice, read_slices
from featlift.volumes.grid import Shape
from featlift.volumes.image import Image
from featlift.volumes.merging import merged
from featlift.volumes.volume import Affine

_TAGS = ("SegmentSequence", "SegmentationType", "MaximumFractionalValue", "SharedFunctionalGroupsSequence")
_NUMBER = "ReferencedSegmentNumber"
_OFF_GRID = 0.1  # of a step, or of a pixel


@dataclass(frozen=True, eq=False)
class _Planes:
    """The regular grid on which frames lie: slices without any mask may have no frame."""

    first: Slice
    step: float
    heights: NDArray[np.float64]

    @classmethod
    def of(cls, frames: Sequence[Slice], step: float) -> _Planes:
        """Measure frames, whose step, mm, is the smallest where the file says nothing (0)."""
        normal = normal_of(frames[0].orientation)
        heights = np.array([one.position @ normal for one in frames])
        first = frames[int(heights.argmin())]
        heights -= heights.min()
        apart = np.diff(np.unique(heights.round(3)))
        step = step or float(apart.min(initial=np.inf, where=apart > 0))
        if not np.isfinite(step):
            raise VolumeError("one slice of unknown thickness: its place in the patient is no volume")
        planes = cls(first, step, heights)
        off = np.abs(heights - planes.numbers * step)
        shifts = np.array([one.position for one in frames]) - first.position - np.outer(heights, normal)
        in_plane = np.linalg.norm(shifts, axis=1)
        if off.max() > _OFF_GRID * step + 1e-3 * planes.numbers.max() or in_plane.max() > min(first.spacing) / 2:
            raise VolumeError("its frames lie on no regular grid: export the segmentation on that of its scan")
        return planes

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Of the plane that each frame lies in."""
        return np.round(self.heights / self.step).astype(np.int64)

    @property
    def shape(self) -> Shape:
        """(D, H, W)."""
        return int(self.numbers.max()) + 1, *self.first.shape

    @property
    def affine(self) -> Affine:
        """PS3.3 C.7.6.2.1.1, with the plane as third index."""
        along_rows, down_columns = self.first.orientation
        affine = np.eye(4)
        affine[:3, 0] = normal_of(self.first.orientation) * self.step
        affine[:3, 1] = down_columns * self.first.spacing[0]
        affine[:3, 2] = along_rows * self.first.spacing[1]
        affine[:3, 3] = self.first.position
        return affine


def open_segmentation(path: Path, labels: Mapping[str, int]) -> Image:
    """Open a segmentation as an image of labels.

    Args:
        path: the file.
        labels: of segments by name; others are left out.

    Raises:
        VolumeError: it is damaged, or its frames are on no regular grid.
    """
    frames = read_slices(path.parent, (path.name,))
    check_alike(frames)
    with reading("its header is not readable"):
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        planes = _Planes.of(frames, _step(header))
        names = segments_of(header)
    wanted = {number: labels[name] for number, name in names.items() if name in labels}
    kind = str(header.get("SegmentationType") or "BINARY")
    half = float(header.get("MaximumFractionalValue") or 1) / 2 if kind == "FRACTIONAL" else 0.5

    def load(frame: int) -> NDArray[Any]:
        return merged(planes.shape, label_map() if kind == "LABELMAP" else segments())

    def label_map() -> Iterator[tuple[int, NDArray[np.bool_]]]:
        values = np.zeros(planes.shape, np.float32)
        values[planes.numbers] = load_slices(path.parent, frames)
        for number, label in wanted.items():
            yield label, values == number

    def segments() -> Iterator[tuple[int, NDArray[np.bool_]]]:
        of_frames = np.array([one.phase.get(_NUMBER, 0) for one in frames])
        for number, label in wanted.items():
            of_segment = np.flatnonzero(of_frames == number)
            voxels = np.zeros(planes.shape, np.bool_)
            if len(of_segment):
                stored = load_slices(path.parent, [frames[place] for place in of_segment])
                voxels[planes.numbers[of_segment]] = stored >= half
            yield label, voxels

    return Image(planes.shape, load, planes.affine)


def segments_of(header: Dataset) -> dict[int, str]:
    """What the segments of a file are called, by their numbers; the background of a label map is none."""
    return {
        int(one.SegmentNumber): str(
            one.get("SegmentLabel") or one.get("SegmentDescription") or f"segment {one.SegmentNumber}"
        )
        for one in header.SegmentSequence
        if int(one.SegmentNumber)
    }


def _step(header: Dataset) -> float:
    """Mm between planes as the file says, 0 if it does not."""
    for groups in header.get("SharedFunctionalGroupsSequence") or ():
        for measures in groups.get("PixelMeasuresSequence") or ():
            return float(measures.get("SpacingBetweenSlices") or 0)
    return 0.0

"""Masks in DICOM, segmentations (SEG) and contours (RTSTRUCT): what their headers say, and which reads which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydicom import Dataset, dcmread

from featlift.volumes.dicom.contours import name_of_roi, open_contours
from featlift.volumes.dicom.headers import error_context, reading, sop_class_of
from featlift.volumes.dicom.segmentation import open_segmentation, segments_of
from featlift.volumes.image import Image

_SEGMENTATION, _CONTOURS = "SEG", "RTSTRUCT"
_TAGS = (
    "SOPClassUID", "Modality", "SegmentSequence", "StructureSetROISequence", "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
)  # fmt: skip


@dataclass(frozen=True)
class Structures:
    """What a mask in DICOM says of itself.

    Attributes:
        labels: name and number of each structure in the order of the file; 0 in contours, whose numbers say nothing.
        series: the start of the SHA-256 of the SeriesInstanceUID that it was drawn on, as in the ids of cases; "" if
            it does not say.
        needs_series: whether it has no grid of its own.
    """

    labels: tuple[tuple[str, int], ...]
    series: str
    needs_series: bool


def structures_in(path: Path) -> Structures | None:
    """What a DICOM file says of its structures; None if it is no mask.

    Raises:
        VolumeError: it is damaged.
    """
    with reading("not readable as DICOM"):
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        kind = _kind(header)
        if not kind:
            return None
        if kind == _CONTOURS:
            labels = tuple((name_of_roi(roi), 0) for roi in header.StructureSetROISequence)
        else:
            labels = tuple((name, number) for number, name in segments_of(header).items())
        uid = next(_series(header), "")
    return Structures(labels, sha256(uid.encode()).hexdigest()[:8] if uid else "", kind == _CONTOURS)


def open_structures(root: Path, members: Sequence[str], labels: Mapping[str, int]) -> Image:
    """Open a mask in DICOM as an image of labels, that of the smallest structure where several lie.

    Args:
        root: its folder.
        members: the file below it, and of contours also those of the series that they lie on.
        labels: of structures by name; others are left out.

    Raises:
        VolumeError: it is damaged, or its frames or contours are on no regular grid.
    """
    with error_context(members[0]):
        if len(members) > 1:
            return open_contours(root, members[0], members[1:], labels)
        return open_segmentation(root / members[0], labels)


def _kind(header: Dataset) -> str:
    name, modality = sop_class_of(header), str(header.get("Modality") or "")
    if "Surface" in name:
        return ""
    if modality in (_SEGMENTATION, _CONTOURS):
        return modality
    return _SEGMENTATION if "Segmentation" in name else _CONTOURS if "Structure Set" in name else ""


def _series(header: Dataset) -> Iterator[str]:
    """The SeriesInstanceUIDs that it refers to."""
    for series in header.get("ReferencedSeriesSequence") or ():
        yield str(series.SeriesInstanceUID)
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield str(series.SeriesInstanceUID)

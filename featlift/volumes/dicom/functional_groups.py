"""The frames of a DICOM object, each as if it were a file of its own."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

#: Functional groups with tags that are read (PS3.3 C.7.6.16.2, C.8.13.5, C.8.15.3, C.8.22.5). The last two are of
#: legacy converted objects, which keep there what no group has a place for.
_GROUPS = (
    "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence",
    "FrameContentSequence", "TemporalPositionSequence", "CardiacSynchronizationSequence",
    "MREchoSequence", "MRDiffusionSequence", "MRModifierSequence", "MRTimingAndRelatedParametersSequence",
    "MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence",
    "CTReconstructionSequence", "CTXRayDetailsSequence", "DiffusionGradientDirectionSequence",
    "SegmentIdentificationSequence",
    "UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence",
)  # fmt: skip


def frames_of(header: Dataset) -> Iterator[Dataset]:
    """Every frame with all its tags on one level: those of the file, of the shared and of its own functional groups.

    A classic object, which has no functional groups, is its only frame.
    """
    if "PerFrameFunctionalGroupsSequence" not in header:
        yield header
        return
    for own in header.PerFrameFunctionalGroupsSequence:
        frame = Dataset()
        frame.update(header)
        for shared in header.get("SharedFunctionalGroupsSequence") or ():
            _flatten(shared, frame)
        _flatten(own, frame)
        yield frame


def _flatten(groups: Dataset, frame: Dataset) -> None:
    for keyword in _GROUPS:
        for item in groups.get(keyword) or ():
            frame.update(item)
            _flatten(item, frame)

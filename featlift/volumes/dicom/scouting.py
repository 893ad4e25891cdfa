"""Tell the slices of a volume from everything else that a PACS keeps in the same folder."""

from __future__ import annotations

from pydicom import Dataset

from featlift.volumes.dicom.functional_groups import frames_of
from featlift.volumes.dicom.headers import sop_class_of

#: Objects that are made of other images, though they have pixels and a place in the patient, by Modality.
_DERIVED = {"SEG": "segmentation", "RTDOSE": "radiotherapy dose"}

_DICOMDIR = "Media Storage Directory Storage"


def why_no_slice(header: Dataset) -> str | None:
    """Why a file holds no slice of a volume, None if it does.

    A file that by its SOP class is an image and lacks its size, or an enhanced one and lacks its frames, counts as a
    slice: a truncated one, which its series must not lose in silence.
    """
    kind = sop_class_of(header)
    if kind == _DICOMDIR:
        return "DICOMDIR"
    if header.get("Modality") in _DERIVED:
        return _DERIVED[header.Modality]
    if "Segmentation" in kind:
        return _DERIVED["SEG"]
    if "Rows" not in header or "Spectroscopy" in kind:
        return None if "Image Storage" in kind else f"no image{f' ({kind})' if kind else ''}"
    if header.get("SamplesPerPixel", 1) != 1 or not _is_grey(header):
        return "colour image"
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return "localizer"
    if not _has_position(header) and not _lost_its_frames(header, kind):
        return "image without a position in the patient"
    return None


def modality_of(header: Dataset) -> str | None:
    """``CT``, ``MR``, ... if the header says."""
    return str(header.get("Modality") or "") or None


def _is_grey(header: Dataset) -> bool:
    return str(header.get("PhotometricInterpretation") or "MONOCHROME2").startswith("MONOCHROME")


def _has_position(header: Dataset) -> bool:
    """Whether every frame has its own: a classic object of several frames has one for all of them."""
    if "PerFrameFunctionalGroupsSequence" not in header and int(header.get("NumberOfFrames") or 1) > 1:
        return False
    first = next(frames_of(header), Dataset())
    return bool(first.get("ImagePositionPatient"))


def _lost_its_frames(header: Dataset, kind: str) -> bool:
    return "Enhanced" in kind and "PerFrameFunctionalGroupsSequence" not in header

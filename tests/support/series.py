"""DICOM series as a scanner writes them, and as things go wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from featlift.errors import VolumeError
from featlift.volumes.dicom import find_series, open_series
from featlift.volumes.image import Image

AXIAL = np.eye(3)[:2]
OBLIQUE = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix().T[:2]
FIRST = (-112.5, -98.25, 40.5)
SPACING = (0.7, 0.9)  # between rows, between columns
SHAPE = (12, 10)

#: What must never be seen outside the file.
PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "SECRET4711",
    "PatientBirthDate": "19700131",
    "StudyDate": "20230524",
    "StudyDescription": "Follow-up after surgery",
    "SeriesDescription": "Thorax 2.5 B30f",
    "InstitutionName": "Hospital of the Valley",
}

_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
_ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}


def stored(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """12 bit pixels of a slice, different in every slice."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (1000 + 100 * number + 7 * rows + 3 * columns).astype(np.uint16)


def slices(
    count: int = 6,
    step: float = 2.5,
    orientation: np.ndarray = AXIAL,
    modality: str = "CT",
    shape: tuple[int, int] = SHAPE,
    series_uid: str | None = None,
    heights: Sequence[float] | None = None,
) -> list[Dataset]:
    """A series: axial or oblique, 12 bit, SliceThickness 5, which is not the spacing, one file a slice.

    Args:
        count: of slices.
        step: mm from one to the next.
        orientation: (2, 3) row and column cosines.
        modality: CT, MR or PT.
        shape: rows and columns.
        series_uid: SeriesInstanceUID.
        heights: mm along the normal, in place of `count` and `step`.
    """
    heights = [number * step for number in range(count)] if heights is None else heights
    series_uid, study_uid, frame_uid = series_uid or generate_uid(), generate_uid(), generate_uid()
    normal = np.cross(*orientation)
    written = []
    for number, height in enumerate(heights):
        one = Dataset()
        one.SOPClassUID, one.SOPInstanceUID = _CLASSES[modality], generate_uid()
        one.SeriesInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID = series_uid, study_uid, frame_uid
        for keyword, value in PATIENT.items():
            setattr(one, keyword, value)
        one.PatientSex, one.StudyTime, one.AccessionNumber, one.StudyID = "F", "101112", "A1", "1"
        one.Manufacturer, one.ReferringPhysicianName, one.PositionReferenceIndicator = "ACME", "Roe^Richard", ""
        one.Modality, one.ImageType, one.PatientPosition = modality, ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS"
        one.SeriesNumber, one.InstanceNumber = 3, number + 1
        one.SliceThickness, one.PixelSpacing = 5, list(SPACING)
        one.ImageOrientationPatient = [f"{cosine:.12f}" for cosine in orientation.ravel()]
        one.ImagePositionPatient = [f"{x:.9f}" for x in np.array(FIRST) + height * normal]
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, -1024, "HU"
        set_pixels(one, stored(number, shape))
        written.append(one)
    return written


def set_pixels(one: Dataset, pixels: np.ndarray, bits: int = 12) -> None:
    """Store pixels uncompressed."""
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.Rows, one.Columns = pixels.shape[-2:]
    one.BitsAllocated, one.BitsStored, one.HighBit = 8 * pixels.itemsize, bits, bits - 1
    one.PixelRepresentation = int(pixels.dtype.kind == "i")
    one.PixelData = pixels.tobytes()
    one["PixelData"].VR = "OW"
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def enhanced(written: Sequence[Dataset], frames: Iterable[Callable[[Dataset, Dataset], None]] = ()) -> Dataset:
    """The same slices in one enhanced multi-frame object: what they share in shared functional groups.

    Args:
        written: classic slices.
        frames: what else to do with (functional groups of a frame, its classic slice).
    """
    first = written[0]
    whole = Dataset()
    whole.update(first)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
                    "RescaleSlope", "RescaleIntercept", "RescaleType",
                    "EchoTime", "DiffusionBValue", "DiffusionGradientOrientation"):  # fmt: skip
        if keyword in whole:
            del whole[keyword]
    whole.SOPClassUID, whole.SOPInstanceUID, whole.NumberOfFrames = (
        _ENHANCED[first.Modality],
        generate_uid(),
        len(written),
    )
    whole.ContentDate, whole.ContentTime = "20230524", "101112"
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=first.ImageOrientationPatient)]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=first.PixelSpacing, SliceThickness=5)]
    whole.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number, one in enumerate(written):
        own = Dataset()
        own.PlanePositionSequence = [_item(ImagePositionPatient=one.ImagePositionPatient)]
        own.PixelValueTransformationSequence = [
            _item(RescaleSlope=one.RescaleSlope, RescaleIntercept=one.RescaleIntercept, RescaleType="HU")
        ]
        own.FrameContentSequence = [
            _item(DimensionIndexValues=[number + 1], StackID="1", InStackPositionNumber=number + 1)
        ]
        for change in frames:
            change(own, one)
        groups.append(own)
    whole.PerFrameFunctionalGroupsSequence = groups
    whole.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=(dimensions := generate_uid()))]
    pointer = _item(
        DimensionOrganizationUID=dimensions, DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111
    )
    whole.DimensionIndexSequence = [pointer]
    whole.PixelData = b"".join(one.PixelData for one in written)
    whole["PixelData"].VR = "OW"
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return whole


def save(folder: Path, written: Iterable[Dataset], name: str = "IM{:03}") -> list[str]:
    """Write files named as the archive of a PACS names them, and give their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, one in enumerate(written):
        path = folder / name.format(number)
        dcmwrite(path, one, enforce_file_format=True)
        names.append(path.name)
    return names


def zipped(folder: Path) -> Path:
    """The folder as a .zip beside it."""
    path = folder.with_suffix(".zip")
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def members_of(root: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def opened(root: Path, *, allow_irregular: bool = False) -> Image:
    """The only series in a folder."""
    (series,), _ = find_series(root, members_of(root))
    return open_series(root, series.members, allow_irregular=allow_irregular)


def written_and_opened(folder: Path, written: Iterable[Dataset], *, allow_irregular: bool = False) -> Image:
    """The series that these slices make when they are written to an empty folder."""
    save(folder, written)
    return opened(folder, allow_irregular=allow_irregular)


def expected(count: int = 6) -> np.ndarray:
    """What the slices stand for, in HU."""
    return np.stack([stored(number) for number in range(count)]).astype(np.float32) - 1024


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, DicomSequence(value) if isinstance(value, DicomSequence) else value)
    return item


def refusal(folder: Path, written: Iterable[Dataset] | None = None, *, allow_irregular: bool = False) -> str:
    """How the series is refused; the message is one line without path, UID or anything of the patient's."""
    if written is not None:
        save(folder, written)
    with pytest.raises(VolumeError) as caught:
        opened(folder, allow_irregular=allow_irregular).load(0)
    message = str(caught.value)
    assert_private(message, folder)
    return message


def assert_private(text: str, folder: Path) -> None:
    """No path, no UID, nothing of the patient's, and one line."""
    assert "\n" not in text
    for secret in [
        *PATIENT.values(),
        "Doe",
        "Jane",
        "Roe",
        "ACME",
        "1.2.826.",
        "1.2.840.",
        str(folder),
        str(folder.parent),
    ]:
        assert secret not in text

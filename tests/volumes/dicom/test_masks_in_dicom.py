"""DICOM SEG and RTSTRUCT: structures where highdicom and contours put them, with the case of their series."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from featlift.errors import InputError, VolumeError
from featlift.volumes import find_masks, find_scans, read, read_mask
from featlift.volumes.label_names import names_in
from featlift.volumes.masks import labels_on
from tests.support.series import AXIAL, OBLIQUE, save, slices


def digest(series: list[Dataset]) -> str:
    return sha256(series[0].SeriesInstanceUID.encode()).hexdigest()[:8]


def labelled() -> np.ndarray:
    """Two structures on the grid of `slices`; none on its first and last slice, and none on the third."""
    labels = np.zeros((6, 12, 10), np.uint8)
    labels[1, 2:5, 3:8], labels[3:5, 2:6, 1:4], labels[3:5, 7:11, 2:9] = 1, 1, 2
    return labels


def described(number: int, label: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        number,
        label,
        codes.SCT.Organ,
        codes.SCT.Organ,
        hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def segmentation(
    path: Path, series: list[Dataset], labels: np.ndarray, kind: str, names: tuple[str, ...] = ("liver", "spleen")
) -> Path:
    """A SEG on a series, as highdicom writes it; it leaves empty frames out."""
    options = {"max_fractional_value": 100} if kind == "FRACTIONAL" else {}
    pixels = labels
    if kind == "FRACTIONAL":
        pixels = np.stack([np.where(labels == number, 0.9, 0.2) for number in (1, 2)], axis=-1).astype(np.float32)
        pixels[..., :][labels == 0] *= 0.5
    made = hd.seg.Segmentation(
        source_images=series,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[described(number, name) for number, name in enumerate(names, start=1)],
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="ACME",
        manufacturer_model_name="M",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)
    return path


def structure_set(path: Path, series: list[Dataset], contours: dict[str, list[np.ndarray]]) -> Path:
    """An RTSTRUCT with closed contours, ``(N, 3)`` LPS millimetres, by name of the structure."""
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    one.Modality, one.SeriesInstanceUID, one.StudyInstanceUID = "RTSTRUCT", generate_uid(), generate_uid()
    referenced, study, frame = Dataset(), Dataset(), Dataset()
    referenced.SeriesInstanceUID = series[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = [referenced]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = series[0].FrameOfReferenceUID, [study]
    one.ReferencedFrameOfReferenceSequence = [frame]
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    for number, (name, polygons) in enumerate(contours.items(), start=5):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in polygons:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
            drawn.ContourSequence.append(contour)
        one.StructureSetROISequence.append(roi)
        one.ROIContourSequence.append(drawn)
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, one, enforce_file_format=True)
    return path


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_lies_where_its_series_does(tmp_path, kind, orientation):
    series = slices(orientation=orientation)
    save(tmp_path / "ct", series)
    scan = read(tmp_path / "ct")
    path = segmentation(tmp_path / "seg" / "s.dcm", series, labelled(), kind)
    mask = read_mask(path)
    assert mask.affine is not None
    assert np.allclose(mask.affine[:3, :3], scan.affine[:3, :3], atol=1e-4)
    assert np.array_equal(labels_on(mask, scan.array.shape, scan.affine), labelled())


def test_a_segmentation_finds_the_case_of_its_series_and_carries_names(tmp_path):
    """The images in the same folder are no masks."""
    for patient in ("p1", "p2"):
        series = slices(orientation=OBLIQUE)
        save(tmp_path / patient / "ct", series)
        names = ("liver", "spleen") if patient == "p1" else ("spleen", "liver")
        segmentation(tmp_path / patient / "any" / "1.dcm", series, labelled(), "BINARY", names)
    scans = {scan.id: scan for scan in find_scans([tmp_path]).scans}
    found = find_masks(scans, tmp_path)
    assert list(found) == list(scans)
    assert names_in(found.values()) == {1: "liver", 2: "spleen"}
    first, second = (
        labels_on(read_mask(mask), (6, 12, 10), read(tmp_path / patient / "ct").affine)
        for patient, mask in zip(("p1", "p2"), found.values(), strict=True)
    )
    assert np.array_equal(first, labelled())
    assert np.array_equal(second, np.choose(labelled(), [0, 2, 1]))
    (tmp_path / "masks.csv").write_text("id,path\nx,p1/any/1.dcm\n")
    assert np.array_equal(
        read_mask(find_masks(["x"], tmp_path / "masks.csv")["x"]).array, read_mask(found[min(scans)]).array
    )


def test_a_segmentation_of_a_scan_that_was_converted_is_called_after_it(tmp_path):
    segmentation(tmp_path / "p1" / "s.dcm", slices(), labelled(), "BINARY")
    segmentation(tmp_path / "p2.dcm", slices(), labelled(), "BINARY")
    assert set(find_masks(["p1", "p2"], tmp_path)) == {"p1", "p2"}
    segmentation(tmp_path / "p1" / "t.dcm", slices(), labelled(), "BINARY")
    with pytest.raises(InputError, match=r"two masks for p1: p1/s\.dcm and p1/t\.dcm"):
        find_masks(["p1", "p2"], tmp_path)


def ring(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Indices (d, h, w) as points in the patient."""
    return (affine @ np.column_stack([points, np.ones(len(points))]).T)[:3].T


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_contours_are_filled_on_the_voxels_of_their_series(tmp_path, orientation):
    series = slices(orientation=orientation)
    save(tmp_path / "ct", series)
    affine = read(tmp_path / "ct").affine

    def box(d: float, rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
        (top, low), (left, right) = rows, columns
        return ring(np.array([[d, top, left], [d, top, right], [d, low, right], [d, low, left]]), affine)

    body = [box(d, (0.5, 10.5), (0.5, 8.5)) for d in range(1, 5)]
    body += [box(2, (3.5, 6.5), (3.5, 6.5))]  # a hole
    contours = {"body": body, "GTV 1": [box(3.2, (4.5, 7.5), (1.5, 4.5))], "empty": []}
    structure_set(tmp_path / "rt.dcm", series, contours)
    want = np.zeros((6, 12, 10), np.uint8)
    want[1:5, 1:11, 1:9] = 2
    want[2, 4:7, 4:7] = 0
    want[3, 5:8, 2:5] = 1
    scan = find_scans([tmp_path]).scans[0]
    found = find_masks([scan.id], tmp_path)[scan.id]
    assert names_in([found]) == {1: "GTV 1", 2: "body", 3: "empty"}
    mask = read_mask(found)
    assert np.array_equal(mask.array, want)
    assert np.allclose(mask.affine, affine, atol=1e-6)


def test_contours_that_cannot_be_filled(tmp_path):
    series = slices()
    contour = np.array([[-112.0, -98, 43], [-108, -98, 43], [-108, -94, 43]])
    structure_set(tmp_path / "rt.dcm", series, {"liver": [contour]})
    with pytest.raises(InputError, match=f"rt.dcm: its contours lie on the series {digest(series)}, which is not in"):
        find_masks(["p1"], tmp_path)
    save(tmp_path / "ct", series)
    structure_set(tmp_path / "rt.dcm", series, {"liver": [contour + np.diag([0, 0, 5])]})
    mask = find_masks([find_scans([tmp_path]).scans[0].id], tmp_path)
    with pytest.raises(VolumeError, match="contours of liver lie across the slices"):
        read_mask(next(iter(mask.values())))


def test_a_damaged_segmentation_is_told_in_one_line(tmp_path):
    path = segmentation(tmp_path / "p1.dcm", slices(), labelled(), "BINARY")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 20])
    with pytest.raises(VolumeError, match=r"p1\.dcm: .*(truncated|copy it again)") as told:
        read_mask(find_masks(["p1"], tmp_path)["p1"])
    assert "\n" not in str(told.value)


def identified(path: Path) -> Dataset:
    """With what was removed from a real scan and highdicom asks for."""
    one = dcmread(path)
    one.SOPClassUID, one.SOPInstanceUID = (
        one.file_meta.MediaStorageSOPClassUID,
        one.file_meta.MediaStorageSOPInstanceUID,
    )
    one.SeriesInstanceUID = one.StudyInstanceUID = one.FrameOfReferenceUID = "1.2.3"
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(one, keyword, "")
    one.AccessionNumber = one.ReferringPhysicianName = one.PositionReferenceIndicator = ""
    return one


def test_a_segmentation_of_a_real_scan(tmp_path, shared):
    """TotalSegmentator's labels of its DICOM example as highdicom writes them: the two largest."""
    folder = shared / "totalseg" / "example_ct_dicom"
    series = [identified(path) for path in sorted(folder.iterdir())]
    scan = read(folder)
    labels = labels_on(read(shared / "totalseg" / "example_seg_dicom.nii.gz"), scan.array.shape, scan.affine)
    first, second = np.argsort(np.bincount(labels[labels > 0].ravel()))[-2:]
    two = np.where(labels == first, 1, np.where(labels == second, 2, 0)).astype(np.uint8)
    ordered = sorted(series, key=lambda one: float(one.ImagePositionPatient[2]))
    path = segmentation(tmp_path / "s.dcm", ordered, two, "BINARY")
    assert np.array_equal(labels_on(read_mask(path), scan.array.shape, scan.affine), two)

"""Which files belong together, and which are no scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
    SpatialRegistrationStorage,
    generate_uid,
)

from featlift.errors import InputError
from featlift.volumes.dicom import dicom_in_zip, find_series, looks_like_dicom
from featlift.volumes.source import Skipped
from tests.support.series import (
    assert_private,
    enhanced,
    expected,
    members_of,
    opened,
    save,
    set_pixels,
    slices,
    stored,
    zipped,
)


def found(root: Path) -> tuple[list[str], dict[str, str]]:
    """The folders of the series, and what was skipped for which reason."""
    series, skipped = find_series(root, members_of(root))
    for each in skipped:
        assert_private(f"{each.name}: {each.reason}", root)
    return [each.folder for each in series], {each.name: each.reason for each in skipped}


def test_dicom_is_known_by_its_mark_or_its_suffix(tmp_path: Path) -> None:
    save(tmp_path, slices(1))
    start = (tmp_path / "IM000").read_bytes()[:132]
    assert looks_like_dicom("IM000", start)
    assert not looks_like_dicom("IM000", start[:131])
    assert looks_like_dicom("0001.DCM", b"")
    assert looks_like_dicom("0001.ima", b"")
    assert not looks_like_dicom("notes.txt", b"DICM")


def test_series_are_told_apart_by_their_uid_wherever_their_files_are(tmp_path: Path) -> None:
    chest, head = slices(), slices(5, modality="MR")
    save(tmp_path / "a" / "1", [*chest[::2], *head[:2]])
    save(tmp_path / "a" / "2", [*chest[1::2], *head[2:]])
    save(tmp_path / "b", slices(4))
    series, skipped = find_series(tmp_path, members_of(tmp_path))
    assert sorted((each.folder, len(each.members), each.modality) for each in series) == [
        ("a", 5, "MR"),
        ("a", 6, "CT"),
        ("b", 4, "CT"),
    ]
    assert len({each.digest for each in series}) == 3
    assert all(len(each.digest) == 8 and int(each.digest, 16) >= 0 for each in series)
    assert skipped == []


def test_the_digest_is_that_of_the_uid_and_not_of_the_place(tmp_path: Path) -> None:
    save(tmp_path / "x", slices(series_uid="1.2.3"))
    save(tmp_path / "y" / "z", slices(series_uid="1.2.3"))
    (one,), _ = find_series(tmp_path / "x", members_of(tmp_path / "x"))
    (other,), _ = find_series(tmp_path / "y", members_of(tmp_path / "y"))
    assert one.digest == other.digest == "c47f5b18"  # of printf 1.2.3 | sha256sum
    assert (one.folder, other.folder) == ("", "z")


def test_series_whose_uid_was_removed_are_one_by_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        written = slices()
        for one in written:
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            one.SeriesInstanceUID = one.SOPInstanceUID = None
        save(tmp_path / folder, written)
    assert found(tmp_path) == (["a", "b"], {})


def test_an_instance_that_was_copied_counts_once(tmp_path: Path) -> None:
    written = slices()
    save(tmp_path / "a", written)
    save(tmp_path / "b", written[2:4])
    (series,), skipped = find_series(tmp_path, members_of(tmp_path))
    assert len(series.members) == 6
    assert skipped == []
    assert np.array_equal(opened(tmp_path).load(0), expected())


def test_localizers_are_left_out_of_a_series_and_told(tmp_path: Path) -> None:
    written = slices(8)
    for one in written[:2]:
        one.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"]
        one.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    save(tmp_path / "chest", written)
    (series,), (skipped,) = find_series(tmp_path, members_of(tmp_path))
    assert series.members == tuple(f"chest/IM{number:03}" for number in range(2, 8))
    assert skipped == Skipped(f"chest__{series.digest}", "2 files: localizer")


def test_single_and_colour_images_and_those_without_a_position_are_no_scans(tmp_path: Path) -> None:
    save(tmp_path / "single", slices(1))
    colour = slices(3)
    for one in colour:
        set_pixels(one, stored(1))
        one.SamplesPerPixel, one.PhotometricInterpretation = 3, "RGB"
    save(tmp_path / "colour", colour)
    palette = slices(1)
    palette[0].PhotometricInterpretation = "PALETTE COLOR"
    save(tmp_path / "palette", palette)
    nowhere = slices(2)
    for one in nowhere:
        del one.ImagePositionPatient
    save(tmp_path / "nowhere", nowhere)
    cine = slices(1)[0]
    cine.NumberOfFrames, cine.PixelData = 2, cine.PixelData * 2
    save(tmp_path / "cine", [cine])
    folders, skipped = found(tmp_path)
    assert folders == []
    assert {name.partition("__")[0]: reason for name, reason in skipped.items()} == {
        "single/IM000": "a single image",
        "colour": "3 files: colour image",
        "palette/IM000": "colour image",
        "nowhere": "2 files: image without a position in the patient",
        "cine/IM000": "image without a position in the patient",
    }


def test_enhanced_objects_are_series_of_one_file_if_they_have_positions(tmp_path: Path) -> None:
    save(tmp_path / "good", [enhanced(slices())])
    nowhere = enhanced(slices())
    for groups in nowhere.PerFrameFunctionalGroupsSequence:
        del groups.PlanePositionSequence
    save(tmp_path / "nowhere", [nowhere])
    save(tmp_path / "single", [enhanced(slices(1))])
    assert found(tmp_path) == (
        ["good"],
        {"nowhere/IM000": "image without a position in the patient", "single/IM000": "a single image"},
    )


@pytest.mark.parametrize(
    ("sop_class", "modality", "reason"),
    [
        (EnhancedSRStorage, "SR", "no image (Enhanced SR Storage)"),
        (EncapsulatedPDFStorage, "DOC", "no image (Encapsulated PDF Storage)"),
        (SpatialRegistrationStorage, "REG", "no image (Spatial Registration Storage)"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", "no image (RT Structure Set Storage)"),
        ("1.2.840.10008.5.1.4.1.1.9.1.1", "ECG", "no image (12-lead ECG Waveform Storage)"),
        ("1.2.840.10008.5.1.4.1.1.66", "MR", "no image (Raw Data Storage)"),
        ("1.2.3.4.5.6", "MR", "no image"),
    ],
)
def test_objects_without_an_image_are_told_by_their_kind(
    tmp_path: Path, sop_class: str, modality: str, reason: str
) -> None:
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    report.Modality, report.PatientName = modality, "Doe^Jane"
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    save(tmp_path, [report], "{}.dcm")
    assert found(tmp_path) == ([], {"0.dcm": reason})


@pytest.mark.parametrize(("modality", "reason"), [("SEG", "segmentation"), ("RTDOSE", "radiotherapy dose")])
def test_what_is_made_of_other_images_is_no_scan(tmp_path: Path, modality: str, reason: str) -> None:
    made = enhanced(slices())
    made.Modality = modality
    save(tmp_path, [made])
    assert found(tmp_path) == ([], {"IM000": reason})


def test_a_segmentation_is_known_without_its_modality(tmp_path: Path) -> None:
    made = enhanced(slices())
    made.SOPClassUID = SegmentationStorage
    save(tmp_path, [made])
    assert found(tmp_path) == ([], {"IM000": "segmentation"})


def test_the_index_of_a_disc_is_no_scan(tmp_path: Path) -> None:
    disc = FileSet()
    for one in slices():
        disc.add(one)
    disc.write(tmp_path / "disc")
    folders, skipped = found(tmp_path / "disc")
    assert len(folders) == 1
    assert skipped == {"DICOMDIR": "DICOMDIR"}


def test_garbage_and_truncated_headers_are_told_where_their_series_is_unknown(tmp_path: Path) -> None:
    save(tmp_path, slices(4))
    (tmp_path / "garbage.dcm").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "empty.dcm").touch()
    whole = (tmp_path / "IM003").read_bytes()
    (tmp_path / "IM003").write_bytes(whole[: whole.index(b"SECRET4711")])
    folders, skipped = found(tmp_path)
    assert folders == [""]
    assert set(skipped) == {"garbage.dcm", "empty.dcm", "IM003"}
    assert all("damaged or truncated" in reason or "no image" in reason for reason in skipped.values())
    assert "damaged or truncated" in skipped["IM003"]


def test_a_damaged_image_stays_in_its_series(tmp_path: Path) -> None:
    """Where it can be known: the series must not lose a slice in silence."""
    save(tmp_path, slices(2))
    whole = (tmp_path / "IM001").read_bytes()
    (tmp_path / "IM001").write_bytes(whole[: whole.index(b"\x28\x00\x10\x00")])  # before Rows
    (series,), skipped = find_series(tmp_path, members_of(tmp_path))
    assert (len(series.members), skipped) == (2, [])


def test_a_zip_is_searched_without_unpacking_it(tmp_path: Path) -> None:
    written = slices()
    save(tmp_path / "pacs" / "chest", written)
    (tmp_path / "pacs" / "readme.txt").write_text("viewer: start.exe")
    (tmp_path / "pacs" / "__MACOSX").mkdir()
    (tmp_path / "pacs" / "__MACOSX" / "._1.dcm").write_bytes(b"\0\5\26\7")
    archive = zipped(tmp_path / "pacs")
    members = dicom_in_zip(archive)
    assert members == [f"chest/IM{number:03}" for number in range(6)]
    (series,), skipped = find_series(archive, members)
    assert (series.folder, skipped) == ("chest", [])
    assert not (tmp_path / "chest").exists()


def test_a_zip_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"a\.zip: not a \.zip that can be read"):
        dicom_in_zip(tmp_path / "a.zip")


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    for number, one in enumerate(slices()):
        del one.file_meta
        dcmwrite(tmp_path / f"{number}.dcm", one, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "0.dcm").read_bytes()[128:132] != b"DICM"
    assert np.array_equal(opened(tmp_path).load(0), expected())

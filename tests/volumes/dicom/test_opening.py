"""A good series: its grid and its values, whatever the order and the places of its files."""

from __future__ import annotations

import random
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from featlift.volumes.dicom import dicom_in_zip, find_series, open_series
from featlift.volumes.image import Image
from tests.support.series import (
    AXIAL,
    FIRST,
    OBLIQUE,
    enhanced,
    expected,
    members_of,
    opened,
    save,
    slices,
    written_and_opened,
    zipped,
)

ORIENTATIONS = {
    "axial": AXIAL,
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1]]),
    "sagittal": np.array([[0.0, 1, 0], [0, 0, -1]]),
    "feet first prone": np.array([[-1.0, 0, 0], [0, -1, 0]]),
    "oblique": OBLIQUE,
}


def assert_same(image: Image, other: highdicom.Volume) -> None:
    """The same voxels at the same places; highdicom stacks slices the other way round."""
    flipped = other.affine @ np.array([[-1, 0, 0, other.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert np.array_equal(image.load(0), other.array[::-1])
    assert np.allclose(image.affine, flipped, rtol=0, atol=1e-6)


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
@pytest.mark.parametrize("is_enhanced", [False, True], ids=["classic", "enhanced"])
def test_voxels_and_affine_are_those_of_highdicom(tmp_path: Path, orientation: np.ndarray, is_enhanced: bool) -> None:
    written = slices(orientation=orientation)
    image = written_and_opened(tmp_path, [enhanced(written)] if is_enhanced else written)
    assert image.shape == (6, 12, 10)
    assert (image.frames, image.modality, image.notes) == (1, "CT", {})
    assert image.load(0).dtype == np.float32
    assert np.array_equal(image.load(0), expected())
    if is_enhanced:
        assert_same(image, highdicom.imread(tmp_path / "IM000").get_volume())
    else:
        assert_same(image, highdicom.get_volume_from_series(written))


def test_axes_of_the_affine_are_what_the_standard_says(tmp_path: Path) -> None:
    image = written_and_opened(tmp_path, slices())
    assert image.affine is not None
    assert np.allclose(image.affine[:3, 0], [0, 0, 2.5])  # one slice on: not SliceThickness, which is 5
    assert np.allclose(image.affine[:3, 1], [0, 0.7, 0])  # one row down: the first number of PixelSpacing
    assert np.allclose(image.affine[:3, 2], [0.9, 0, 0])
    assert np.allclose(image.affine[:3, 3], FIRST)


def test_a_legacy_converted_object_is_the_series_it_was_made_of(tmp_path: Path) -> None:
    written = slices(orientation=OBLIQUE)
    for number, one in enumerate(written):
        one.RescaleSlope, one.AcquisitionNumber, one.KVP = 1 + number / 4, 1, 120
    converted = LegacyConvertedEnhancedCTImage(
        legacy_datasets=written,
        series_instance_uid=generate_uid(),
        series_number=4,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    classic = written_and_opened(tmp_path / "classic", written)
    image = written_and_opened(tmp_path / "converted", [converted])
    assert np.array_equal(image.load(0), classic.load(0))
    assert np.allclose(image.affine, classic.affine)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    orientation=st.sampled_from(list(ORIENTATIONS.values())),
    folders=st.integers(1, 4),
    flipped=st.booleans(),
)
def test_order_and_folders_of_files_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, seed: int, orientation: np.ndarray, folders: int, flipped: bool
) -> None:
    root = tmp_path_factory.mktemp("series")
    written = slices(orientation=orientation)
    shuffled = written[::-1] if flipped else written
    random.Random(seed).shuffle(shuffled)
    for folder in range(folders):
        save(root / f"{folder}", shuffled[folder::folders], f"{folder}-{{}}")
    (series,), _ = find_series(root, random.Random(seed).sample(members_of(root), 6))
    image = open_series(root, random.Random(seed).sample(series.members, 6))
    assert np.array_equal(image.load(0), expected())
    assert image.affine is not None
    assert np.allclose(image.affine[:3, 3], FIRST)


def test_slices_numbered_from_head_to_feet_give_the_same_volume(tmp_path: Path) -> None:
    written = slices()
    for one in written:
        one.InstanceNumber = 7 - one.InstanceNumber
    image = written_and_opened(tmp_path, written[::-1])
    assert np.array_equal(image.load(0), expected())


@pytest.mark.parametrize("is_enhanced", [False, True], ids=["classic", "enhanced"])
def test_a_zip_is_the_folder_it_was_made_of(tmp_path: Path, is_enhanced: bool) -> None:
    written = slices(orientation=OBLIQUE)
    save(tmp_path / "pacs" / "chest", [enhanced(written)] if is_enhanced else written)
    archive = zipped(tmp_path / "pacs")
    (series,), _ = find_series(archive, dicom_in_zip(archive))
    image, folder = open_series(archive, series.members), opened(tmp_path / "pacs")
    assert np.array_equal(image.load(0), folder.load(0))
    assert np.array_equal(image.affine, folder.affine)


def test_frames_of_an_enhanced_object_need_not_be_in_order(tmp_path: Path) -> None:
    written = slices()
    random.Random(3).shuffle(written)
    assert np.array_equal(written_and_opened(tmp_path, [enhanced(written)]).load(0), expected())


def test_orientation_may_differ_by_frame_as_far_as_rounding_goes(tmp_path: Path) -> None:
    written = slices(orientation=OBLIQUE)
    for one in written[::2]:
        one.ImageOrientationPatient = [f"{cosine:.4f}" for cosine in one.ImageOrientationPatient]
    assert written_and_opened(tmp_path, written).shape == (6, 12, 10)


@pytest.mark.parametrize("step", [0.625, 1.25, 3.27])
@pytest.mark.parametrize("offset", [0.0, 0.04, 0.33])
def test_positions_written_with_one_decimal_are_a_regular_grid(tmp_path: Path, step: float, offset: float) -> None:
    written = slices(60, step)
    for number, one in enumerate(written):
        one.ImagePositionPatient = [0, 0, f"{offset + number * step:.1f}"]
    image = written_and_opened(tmp_path, written)
    assert image.affine is not None
    assert image.affine[2, 0] == pytest.approx(step, abs=0.1 / 59)


def test_a_drift_of_less_than_half_a_pixel_is_left_to_the_affine(tmp_path: Path) -> None:
    written = slices()
    for number, one in enumerate(written):
        one.ImagePositionPatient = [0, 0.05 * number, 2.5 * number]
    image = written_and_opened(tmp_path, written)
    assert image.affine is not None
    assert np.allclose(image.affine[:3, 0], [0, 0.05, 2.5])
    assert image.notes == {}


def test_liver_spleen_and_aorta_of_a_real_scan_lie_under_their_labels(shared: Path) -> None:
    """JPEG 2000, SliceThickness 3 at a spacing of 2 mm, UIDs removed; the mask is stored flipped in y."""
    root = shared / "totalseg" / "example_ct_dicom"
    image = opened(root)
    assert image.shape == (20, 512, 512)
    assert image.affine is not None
    assert np.allclose(image.affine[:3, 0], [0, 0, 2])
    scan = image.load(0)
    mask = nib.load(shared / "totalseg" / "example_seg_dicom.nii.gz")
    labels = np.asarray(mask.dataobj)
    voxels = np.argwhere(np.isin(labels, [1, 5, 52]))
    ras = voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    lps = ras * [-1, -1, 1]
    inverse = np.linalg.inv(image.affine)
    places = np.rint(lps @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    values, label = scan[tuple(places.T)], labels[tuple(voxels.T)]
    assert np.median(values[label == 5]) == pytest.approx(93, abs=1)
    assert np.median(values[label == 1]) == pytest.approx(80, abs=1)
    assert np.median(values[label == 52]) == pytest.approx(151, abs=1)


def test_a_real_scan_is_that_of_highdicom(shared: Path) -> None:
    root = shared / "totalseg" / "example_ct_dicom"
    image = opened(root)
    datasets = [_identified(path) for path in sorted(root.iterdir())]
    assert_same(image, highdicom.get_volume_from_series(datasets))


def _identified(path: Path) -> Dataset:
    """With the UIDs that were removed and that highdicom asks for."""
    one = dcmread(path)
    one.SOPClassUID, one.SOPInstanceUID = (
        one.file_meta.MediaStorageSOPClassUID,
        one.file_meta.MediaStorageSOPInstanceUID,
    )
    one.SeriesInstanceUID = one.StudyInstanceUID = "1.2.3"
    return one

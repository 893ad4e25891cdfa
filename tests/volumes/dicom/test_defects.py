"""What keeps slices from being a volume: each defect with its message, and what --allow-irregular makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from tests.support.series import (
    AXIAL,
    FIRST,
    OBLIQUE,
    SHAPE,
    expected,
    refusal,
    save,
    set_pixels,
    slices,
    stored,
    written_and_opened,
)

WAY_OUT = ": copy the series again, or resample it with --allow-irregular"


def tilted(degrees: float, count: int = 12, step: float = 5.0) -> list[Dataset]:
    """Slices shifted along their columns, as a tilted gantry leaves them, with an edge that is upright in space."""
    written = slices(count, step)
    for number, one in enumerate(written):
        shift = np.tan(np.radians(degrees)) * number * step
        one.ImagePositionPatient = [0, -shift, number * step]
        rows = np.arange(40)[:, None] * 0.7 - shift  # y of each row
        set_pixels(one, np.broadcast_to(1000 + 10 * rows, (40, 10)).round().astype(np.uint16))
    return written


def test_mixed_orientations(tmp_path: Path) -> None:
    written = slices() + slices(2, orientation=np.array([[0.0, 1, 0], [0, 0, -1]]))
    for number, one in enumerate(written):
        one.SeriesInstanceUID, one.InstanceNumber = written[0].SeriesInstanceUID, number + 1
    assert refusal(tmp_path, written) == (
        "mixed orientations: 6 axial, 2 sagittal; the odd ones start at instance 7: keep one kind in the folder"
    )
    assert "mixed orientations" in refusal(tmp_path, allow_irregular=True)


def test_mixed_orientations_of_one_plane_are_told_by_their_angle(tmp_path: Path) -> None:
    written = slices()
    written[3].ImageOrientationPatient = [1, 0, 0, 0, np.cos(0.2), np.sin(0.2)]
    assert "5 axial, 1 axial tilted by 11 degrees; the odd ones start at instance 4" in refusal(tmp_path, written)


def test_mixed_sizes(tmp_path: Path) -> None:
    written = slices()
    set_pixels(written[2], stored(2, (24, 20)))
    assert "mixed image sizes: 5 12 x 10, 1 24 x 20; the odd ones start at instance 3" in refusal(tmp_path, written)
    assert "mixed image sizes" in refusal(tmp_path, allow_irregular=True)


def test_mixed_pixel_spacings(tmp_path: Path) -> None:
    written = slices()
    written[5].PixelSpacing = [0.7, 0.95]
    message = refusal(tmp_path, written)
    assert "mixed pixel spacings: 5 0.7 x 0.9 mm, 1 0.7 x 0.95 mm; the odd ones start at instance 6" in message


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_missing_slices(tmp_path: Path, orientation: np.ndarray) -> None:
    written = slices(9, orientation=orientation)
    start = float(np.array(FIRST) @ np.cross(*orientation))
    del written[3:5]
    assert refusal(tmp_path, written) == (
        f"2 slices missing: 2 between {start + 5:.2f} and {start + 12.5:.2f} mm (instance 3 and instance 6), "
        "where steps are 2.50 mm" + WAY_OUT
    )


def test_a_missing_slice_is_told_where_positions_have_one_decimal(tmp_path: Path) -> None:
    written = slices(40, 0.625)
    for number, one in enumerate(written):
        one.ImagePositionPatient = [0, 0, f"{number * 0.625:.1f}"]
    del written[17]
    assert refusal(tmp_path, written).startswith("1 slice missing: 1 between 10.00 and 11.20 mm (instance 17 and ")


def test_many_gaps_are_counted(tmp_path: Path) -> None:
    kept = [number for number in range(30) if number not in (3, 8, 14, 15, 20, 26)]
    written = slices(30)
    message = refusal(tmp_path, [written[number] for number in kept])
    assert message.startswith("6 slices missing: 1 between")
    assert " and 2 more gaps, where steps are 2.50 mm" in message


def test_irregular_spacing(tmp_path: Path) -> None:
    message = refusal(tmp_path, slices(heights=[0, 2, 4, 6, 9.1, 11.1]))
    assert message == (
        "irregular spacing: steps of 2.00 to 3.10 mm (median 2.00), the worst between 46.50 and 49.60 mm "
        "(instance 4 and instance 5)" + WAY_OUT
    )


def test_a_slice_a_little_off_its_place_is_refused_beyond_the_tolerance(tmp_path: Path) -> None:
    def heights(off: float) -> list[float]:
        return [0, 2, 4 + off, 6, 8, 10]

    assert written_and_opened(tmp_path / "in", slices(heights=heights(0.05))).shape == (6, *SHAPE)
    assert "irregular spacing" in refusal(tmp_path / "out", slices(heights=heights(0.2)))


def test_steps_of_a_micro_ct_are_not_lost_in_the_tolerance(tmp_path: Path) -> None:
    heights = np.delete(np.arange(20) * 0.02, 7)
    written = slices(heights=heights.tolist())
    for one in written:
        one.PixelSpacing = [0.02, 0.02]
    assert "1 slice missing" in refusal(tmp_path, written)


@pytest.mark.parametrize("degrees", [-20.0, 3.5])
def test_gantry_tilt(tmp_path: Path, degrees: float) -> None:
    over = abs(np.tan(np.radians(degrees)) * 55)
    assert refusal(tmp_path, tilted(degrees)) == (
        f"gantry tilt of {abs(degrees)} degrees: slices drift by {over:.2f} mm in plane over 55.00 mm" + WAY_OUT
    )


def test_slices_shifted_against_each_other(tmp_path: Path) -> None:
    written = slices()
    written[3].ImagePositionPatient = [FIRST[0] + 8, FIRST[1], FIRST[2] + 7.5]
    message = refusal(tmp_path, written)
    assert message.startswith("slices shifted against each other, by 8.00 mm in plane over 12.50 mm")


def test_all_defects_are_told_at_once(tmp_path: Path) -> None:
    written = tilted(10)
    del written[4]
    message = refusal(tmp_path, written)
    assert message.startswith("gantry tilt of 10.0 degrees: ")
    assert "; 1 slice missing: 1 between" in message


def test_missing_slices_are_interpolated_if_allowed(tmp_path: Path) -> None:
    written = slices(9)
    del written[3:5]
    image = written_and_opened(tmp_path, written, allow_irregular=True)
    assert image.shape == (9, *SHAPE)
    assert image.notes == {
        "resampled": {"because": "2 slices missing", "slices": 7, "spacing": 2.5, "largest_step": 7.5}
    }
    assert np.allclose(image.load(0), expected(9), rtol=0, atol=1e-3)  # each slice is 100 HU on from the last
    assert image.affine is not None
    assert np.allclose(image.affine[:3, 0], [0, 0, 2.5])


def test_irregular_spacing_is_interpolated_if_allowed(tmp_path: Path) -> None:
    heights = [0, 2, 4, 6, 9.1, 11.1]
    written = slices(heights=heights)
    for one, height in zip(written, heights, strict=True):
        set_pixels(one, np.full(SHAPE, 1000 + round(10 * height), np.uint16))
    image = written_and_opened(tmp_path, written, allow_irregular=True)
    assert image.notes["resampled"] == {
        "because": "irregular spacing",
        "slices": 6,
        "spacing": 1.85,
        "largest_step": 3.1,
    }
    assert np.allclose(image.load(0)[:, 0, 0], -24 + 10 * np.linspace(0, 11.1, 7), rtol=0, atol=1e-3)


@pytest.mark.parametrize("degrees", [-20.0, 3.5])
def test_a_tilted_stack_is_put_upright_if_allowed(tmp_path: Path, degrees: float) -> None:
    """Each row of the result lies at one y, and holds what the slices have there."""
    image = written_and_opened(tmp_path, tilted(degrees), allow_irregular=True)
    assert image.notes["resampled"]["because"] == f"gantry tilt of {abs(degrees)} degrees"
    assert image.affine is not None
    assert np.allclose(image.affine[:3, 0], [0, 0, 5])
    volume = image.load(0)
    expected_rows = -24 + 10 * np.arange(40) * 0.7
    rows = slice(None, -30) if degrees > 0 else slice(30, None)  # those that the last slice has, too
    inside = np.abs(volume[:, rows, 0] - expected_rows[rows]) < 1
    assert inside[0].all()
    assert inside[-1].any()
    shift = np.tan(np.radians(degrees)) * 55 / 0.7
    known = np.arange(40) + shift
    known_rows = (known > 0) & (known < 39)
    assert np.allclose(volume[-1, known_rows, 0], expected_rows[known_rows], rtol=0, atol=1)


def test_regular_series_are_not_resampled(tmp_path: Path) -> None:
    image = written_and_opened(tmp_path, slices(), allow_irregular=True)
    assert image.notes == {}
    assert np.array_equal(image.load(0), expected())


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("PixelSpacing", None, "IM002: has no PixelSpacing, without which it has no place in the volume: leave it out"),
        ("PixelSpacing", [0, 1], "IM002: its PixelSpacing is 0 x 1 mm: correct the tag"),
        ("PixelSpacing", 1, "IM002: its PixelSpacing is not 2 finite numbers: correct the tag"),
        ("ImageOrientationPatient", None, "IM002: has no ImageOrientationPatient, without which"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "IM002: its ImageOrientationPatient is not two perpendicular"),
        ("ImageOrientationPatient", [0] * 6, "IM002: its ImageOrientationPatient is not two perpendicular"),
        ("RescaleSlope", 0, "IM002: its RescaleSlope is 0, which leaves no image: correct the tag"),
        ("Rows", 0, "IM002: has no Rows or no Columns, truncated: copy it again"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"], "IM002: a mosaic, many slices in one image: convert"),
    ],
)
def test_tags_that_a_slice_needs(tmp_path: Path, keyword: str, value: object, message: str) -> None:
    written = slices()
    setattr(written[2], keyword, value)
    assert refusal(tmp_path, written).startswith(message)


@pytest.mark.parametrize("value", [b"1e400", b"nan ", b"inf ", b"Doe^Jane", b"1\\2 "])
def test_a_slope_that_is_no_finite_number(tmp_path: Path, value: bytes) -> None:
    written = slices()
    written[2].RescaleSlope = "1.234567"
    save(tmp_path, written)
    file = tmp_path / "IM002"
    file.write_bytes(file.read_bytes().replace(b"1.234567", value.ljust(8)))
    assert refusal(tmp_path) in (
        "IM002: its RescaleSlope is not 1 finite number: correct the tag",
        "IM002: its header is not readable, damaged or truncated: copy it again",
    )


def test_an_image_whose_header_is_cut_off_is_not_lost_from_its_series(tmp_path: Path) -> None:
    save(tmp_path, slices())
    file = tmp_path / "IM005"
    content = file.read_bytes()
    file.write_bytes(content[: content.index(b"\x28\x00\x02\x00")])  # before group 0028
    assert refusal(tmp_path) == "IM005: has no Rows or no Columns, truncated: copy it again"


def test_all_images_at_one_position(tmp_path: Path) -> None:
    assert refusal(tmp_path, slices(heights=[0, 0, 0])) == "all 3 images lie at one position: it is no volume"


def test_a_slice_that_lost_its_scale_is_refused(tmp_path):
    """DiscoveredScans by mutation: one of many frames would have been 1024 HU off."""
    written = slices()
    del written[2].RescaleSlope, written[2].RescaleIntercept
    assert "mixed scales of values: 5 with RescaleSlope, 1 without" in refusal(tmp_path / "ct", written)

"""Stored values become values with a unit, slice by slice."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import Dataset

from tests.support.series import enhanced, expected, refusal, set_pixels, slices, stored, written_and_opened


def with_own_slopes(modality: str) -> list[Dataset]:
    written = slices(modality=modality)
    for number, one in enumerate(written):
        one.RescaleSlope, one.RescaleIntercept = f"{0.5 + number * 0.37:.6f}", 0
        one.RescaleType = "US"
    return written


def test_every_slice_of_a_pet_has_its_own_slope(tmp_path: Path) -> None:
    written = with_own_slopes("PT")
    for one in written:
        one.Units = "BQML"
    image = written_and_opened(tmp_path, written)
    by_hand = [stored(number) * (0.5 + number * 0.37) for number in range(6)]
    assert image.modality == "PT"
    assert np.allclose(image.load(0), by_hand, rtol=1e-6)
    assert np.allclose(image.load(0), highdicom.get_volume_from_series(written).array[::-1], rtol=1e-6)


def test_every_frame_of_an_enhanced_object_has_its_own_slope(tmp_path: Path) -> None:
    written = with_own_slopes("CT")
    image = written_and_opened(tmp_path, [enhanced(written)])
    by_hand = [stored(number) * (0.5 + number * 0.37) for number in range(6)]
    assert np.allclose(image.load(0), by_hand, rtol=1e-6)
    other = highdicom.imread(tmp_path / "IM000").get_volume()
    assert np.allclose(image.load(0), other.array[::-1], rtol=1e-6)


def test_a_slope_that_all_frames_share(tmp_path: Path) -> None:
    whole = enhanced(slices())
    shared = whole.SharedFunctionalGroupsSequence[0]
    for groups in whole.PerFrameFunctionalGroupsSequence:
        shared.PixelValueTransformationSequence = groups.PixelValueTransformationSequence
        del groups.PixelValueTransformationSequence
    assert np.array_equal(written_and_opened(tmp_path, [whole]).load(0), expected())


def test_without_a_slope_values_are_those_stored(tmp_path: Path) -> None:
    written = slices(modality="MR")
    for one in written:
        del one.RescaleSlope, one.RescaleIntercept, one.RescaleType
    assert np.array_equal(written_and_opened(tmp_path, written).load(0), expected() + 1024)


def test_empty_slopes_are_no_slopes(tmp_path: Path) -> None:
    written = slices(modality="MR")
    for one in written:
        one.RescaleSlope = one.RescaleIntercept = None
    assert np.array_equal(written_and_opened(tmp_path, written).load(0), expected() + 1024)


def test_a_modality_lut_stands_in_for_a_slope(tmp_path: Path) -> None:
    """First value mapped -2: below it the first entry, above the last, PS3.3 C.11.1.1.1."""
    written = slices(3)
    for one in written:
        del one.RescaleSlope, one.RescaleIntercept, one.RescaleType
        set_pixels(one, np.tile(np.array([-5, -2, -1, 0, 1, 9], np.int16), (12, 1)), bits=16)
        table = Dataset()
        table.add_new("LUTDescriptor", "SS", [4, -2, 16])
        table.ModalityLUTType = "HU"
        table.add_new("LUTData", "US", [10, 20, 40, 80])
        one.ModalityLUTSequence = [table]
    values = written_and_opened(tmp_path, written).load(0)
    assert values[1, 5].tolist() == [10, 10, 20, 40, 80, 80]


@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("i2", 16), ("u2", 16), ("i4", 32), ("u4", 32)])
def test_every_integer_type(tmp_path: Path, dtype: str, bits: int) -> None:
    written = slices()
    info = np.iinfo(dtype)
    for number, one in enumerate(written):
        pixels = np.linspace(max(info.min, -(2**23)), min(info.max, 2**23), 120).reshape(12, 10)
        set_pixels(one, (pixels // (number + 1)).astype(dtype), bits)
    values = written_and_opened(tmp_path, written).load(0)
    for number, one in enumerate(written):
        assert np.array_equal(values[number].ravel() + 1024, np.frombuffer(one.PixelData, dtype).astype(np.float32))


def test_overlays_in_unused_bits_are_no_values(tmp_path: Path) -> None:
    """12 of 16 bits are stored; old files keep graphics in the others (PS3.5 8.1.1)."""
    written = slices()
    for number, one in enumerate(written):
        set_pixels(one, stored(number) | np.uint16(0x4000))
    assert np.array_equal(written_and_opened(tmp_path, written).load(0), expected())


def test_signed_values_of_12_bits(tmp_path: Path) -> None:
    written = slices()
    for number, one in enumerate(written):
        set_pixels(one, stored(number).astype(np.int16) - 1500)
    assert np.array_equal(written_and_opened(tmp_path, written).load(0), expected() - 1500)


def test_monochrome1_is_left_as_it_is(tmp_path: Path) -> None:
    written = slices()
    for one in written:
        one.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(written_and_opened(tmp_path, written).load(0), expected())


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")])
def test_floating_point_pixels(tmp_path: Path, keyword: str, dtype: str) -> None:
    whole = enhanced(slices())
    for groups in whole.PerFrameFunctionalGroupsSequence:
        del groups.PixelValueTransformationSequence
    values = np.random.default_rng(0).normal(size=(6, 12, 10)).astype(dtype)
    del whole.PixelData
    setattr(whole, keyword, values.tobytes())
    whole.BitsAllocated = 8 * values.itemsize
    assert np.array_equal(written_and_opened(tmp_path, [whole]).load(0), values.astype(np.float32))


def test_a_damaged_modality_lut(tmp_path: Path) -> None:
    written = slices(3)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4, 0, 16])
    written[1].ModalityLUTSequence = [table]
    message = refusal(tmp_path, written)
    assert message == "IM001: its Modality LUT Sequence is not readable, damaged or truncated: copy it again"

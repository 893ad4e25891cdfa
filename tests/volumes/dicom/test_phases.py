"""Several images at one position: phases of a 4D series, or a refusal."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from tests.support.series import enhanced, opened, refusal, save, set_pixels, slices, stored, written_and_opened


def phases(values: list[dict[str, Any]], count: int = 4) -> list[Dataset]:
    """Slices with one image for each set of tags; the pixels of phase p are 10 p higher."""
    written = []
    for phase, tags in enumerate(values):
        of_phase = slices(count, modality="MR", series_uid="1.2.3")
        for number, one in enumerate(of_phase):
            one.InstanceNumber = number * len(values) + phase + 1
            one.RescaleIntercept = 0
            set_pixels(one, stored(number) + np.uint16(10 * phase))
            for keyword, value in tags.items():
                setattr(one, keyword, value(number) if callable(value) else value)
        written += of_phase
    random.Random(0).shuffle(written)
    return written


def assert_frames(folder: Path, written: list[Dataset], by: str, order: list[int]) -> None:
    """Frame f is phase order[f], at every position."""
    image = written_and_opened(folder, written)
    assert image.frames == len(order)
    assert image.notes == {"frames": {"by": by}}
    assert image.shape == (4, 12, 10)
    for frame, phase in enumerate(order):
        assert np.array_equal(image.load(frame), np.stack([stored(number) for number in range(4)]) + 10.0 * phase)


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("EchoTime", [9.2, 4.6, 13.8]),
        ("TemporalPositionIdentifier", [2, 1, 3]),
        ("DiffusionBValue", [800.0, 0.0, 1000.0]),
        ("InversionTime", [900, 100, 2500]),
        ("AcquisitionNumber", [2, 1, 3]),
        ("TriggerTime", [40, 0, 80]),
        ("AcquisitionTime", ["101112.5", "101111", "101117"]),
    ],
)
def test_one_tag_tells_phases_apart_and_orders_them(tmp_path: Path, tag: str, values: list[Any]) -> None:
    assert_frames(tmp_path, phases([{tag: value} for value in values]), tag, [1, 0, 2])


def test_image_type_tells_magnitude_from_phase(tmp_path: Path) -> None:
    types = [["ORIGINAL", "PRIMARY", kind] for kind in ("P", "M")]
    assert_frames(tmp_path, phases([{"ImageType": kind} for kind in types]), "ImageType", [1, 0])


def test_times_that_differ_from_slice_to_slice_count_by_their_order(tmp_path: Path) -> None:
    times = [{"TriggerTime": lambda number, phase=phase: 100 * phase + 7 * number} for phase in (2, 0, 1)]
    assert_frames(tmp_path, phases(times), "TriggerTime", [1, 2, 0])


def test_two_tags_together_tell_phases_apart(tmp_path: Path) -> None:
    tags = [{"EchoTime": echo, "DiffusionBValue": float(b)} for echo in (10, 5) for b in (500, 0)]
    assert_frames(tmp_path, phases(tags), "EchoTime and DiffusionBValue", [3, 2, 1, 0])


def test_failing_a_tag_the_numbers_of_instances_do(tmp_path: Path) -> None:
    assert_frames(tmp_path, phases([{}, {}]), "InstanceNumber", [0, 1])


def test_enhanced_frames_are_told_apart_by_their_functional_groups(tmp_path: Path) -> None:
    def echo(groups: Dataset, one: Dataset) -> None:
        item = Dataset()
        item.EffectiveEchoTime = float(one.EchoTime)
        groups.MREchoSequence = [item]

    written = phases([{"EchoTime": 9.5}, {"EchoTime": 4.5}])
    assert_frames(tmp_path, [enhanced(written, [echo])], "EffectiveEchoTime", [1, 0])


def test_b_values_with_several_directions_in_an_enhanced_object(tmp_path: Path) -> None:
    def diffusion(groups: Dataset, one: Dataset) -> None:
        item, direction = Dataset(), Dataset()
        item.DiffusionBValue = float(one.DiffusionBValue)
        if one.DiffusionBValue:
            direction.DiffusionGradientOrientation = list(one.DiffusionGradientOrientation)
            item.DiffusionGradientDirectionSequence = [direction]
        groups.MRDiffusionSequence = [item]

    tags = [
        {"DiffusionBValue": 800.0, "DiffusionGradientOrientation": [0.0, 1.0, 0.0]},
        {"DiffusionBValue": 0.0},
        {"DiffusionBValue": 800.0, "DiffusionGradientOrientation": [0.0, 0.0, 1.0]},
    ]
    written = [enhanced(phases(tags), [diffusion])]
    assert_frames(tmp_path, written, "DiffusionGradientOrientation", [1, 2, 0])


def test_frames_of_an_irregular_series_are_resampled(tmp_path: Path) -> None:
    written = [one for one in phases([{"EchoTime": 1}, {"EchoTime": 2}], 6) if one.ImagePositionPatient[2] != 45.5]
    assert len(written) == 10
    image = written_and_opened(tmp_path, written, allow_irregular=True)
    assert image.frames == 2
    assert image.shape == (6, 12, 10)
    assert image.notes["frames"] == {"by": "EchoTime"}
    assert np.allclose(image.load(1) - image.load(0), 10, rtol=0, atol=1e-3)


def test_some_positions_with_more_images_than_others(tmp_path: Path) -> None:
    written = phases([{"EchoTime": 4.6}, {"EchoTime": 9.2}])
    late = [one for one in written if one.EchoTime == 9.2]
    written = [one for one in written if one not in late[1:]]
    message = refusal(tmp_path, written)
    assert message.startswith("2 images at 1 of 4 positions (the first at ")
    assert message.endswith("they differ in EchoTime (4.6, 9.2): keep one kind in the folder")
    assert "2 images at 1 of 4 positions" in refusal(tmp_path, allow_irregular=True)


def test_kinds_that_are_not_the_same_at_every_position(tmp_path: Path) -> None:
    """The order of InstanceNumber would put both echoes into one frame."""
    written = phases([{"EchoTime": lambda number: 5 + number % 2}, {"EchoTime": 9}])
    message = refusal(tmp_path, written)
    assert message.startswith("2 images at 4 of 4 positions (the first at 40.50 mm: instance ")
    assert "they differ in EchoTime (5, 6, 9): keep one kind in the folder" in message


def test_times_are_named_and_not_shown(tmp_path: Path) -> None:
    written = phases([{"AcquisitionTime": "112233"}, {"AcquisitionTime": "112244"}])[:-1]
    message = refusal(tmp_path, written)
    assert "they differ in AcquisitionTime: keep one kind" in message
    assert "1122" not in message


def test_copies_under_new_uids_that_nothing_tells_apart(tmp_path: Path) -> None:
    save(tmp_path / "a", slices(4, series_uid="1.2.3"))
    save(tmp_path / "b", slices(4, series_uid="1.2.3"))
    message = refusal(tmp_path)
    assert message == (
        "2 images at 4 of 4 positions (the first at 40.50 mm: instance 1, instance 1); nothing tells them apart: "
        "remove the copies"
    )


def test_phases_that_lie_apart_in_plane(tmp_path: Path) -> None:
    written = phases([{"EchoTime": 1}, {"EchoTime": 2}])
    for one in written:
        if one.EchoTime == 2:
            one.ImagePositionPatient = [one.ImagePositionPatient[0] + 30, *one.ImagePositionPatient[1:]]
    assert "its phases lie 30.00 mm apart in plane: keep one of them in the folder" in refusal(tmp_path, written)


def test_a_series_of_one_phase_has_one_frame(tmp_path: Path) -> None:
    save(tmp_path, phases([{"EchoTime": 4.6}]))
    image = opened(tmp_path)
    assert (image.frames, image.notes) == (1, {})

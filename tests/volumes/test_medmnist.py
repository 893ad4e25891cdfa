"""MedMNIST's .npz: every volume a case, with its split and label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featlift.errors import VolumeError
from featlift.volumes import Selection, find_scans, read
from featlift.volumes.channels import read_scan
from tests.support.files import noise

SIZES = {"train": 3, "val": 1, "test": 2}


def medmnist(path: Path, **arrays: Any) -> Path:
    """Write a tiny one; arrays by name take the place of its own."""
    for split, count in SIZES.items():
        arrays.setdefault(f"{split}_images", noise((count, 7, 7, 7), "uint8"))
        arrays.setdefault(f"{split}_labels", np.arange(count, dtype="uint8")[:, None])
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_every_volume_is_a_case(tmp_path):
    found = find_scans([medmnist(tmp_path / "tinymnist3d.npz")])
    assert [(scan.id, scan.name, scan.labels) for scan in found.scans] == [
        (f"tinymnist3d__{split}__{number}", "tinymnist3d.npz", {"split": split, "label": number})
        for split in ("test", "train", "val")
        for number in range(SIZES[split])
    ]
    for scan in found.scans:
        split, number = scan.labels["split"], scan.labels["label"]
        np.testing.assert_array_equal(read_scan(scan).array, noise((SIZES[split], 7, 7, 7), "uint8")[number])
    assert (found.skipped, found.notices) == ([], [])


def test_in_a_folder_its_path_is_in_the_id(tmp_path):
    (tmp_path / "sets").mkdir()
    medmnist(tmp_path / "sets/tiny.npz")
    scans = find_scans([tmp_path]).scans
    assert scans[0].id == "sets__tiny__test__0"
    assert len({scan.id for scan in scans}) == sum(SIZES.values())
    assert len(find_scans([tmp_path], limit=2).scans) == 2


def test_several_labels_of_a_volume(tmp_path):
    path = medmnist(tmp_path / "a.npz", train_labels=np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]]))
    labels = {scan.id: scan.labels["label"] for scan in find_scans([path]).scans}
    assert [labels[f"a__train__{number}"] for number in range(3)] == ["1,0,1", "0,0,0", "1,1,1"]


def test_labels_without_an_axis_of_their_own(tmp_path):
    path = medmnist(tmp_path / "a.npz", test_labels=np.array([5, 7]))
    labels = {scan.id: scan.labels["label"] for scan in find_scans([path]).scans}
    assert [labels[f"a__test__{number}"] for number in range(2)] == [5, 7]


def test_a_split_may_be_empty(tmp_path):
    path = medmnist(tmp_path / "a.npz", val_images=np.zeros((0, 7, 7, 7)), val_labels=np.zeros((0, 1)))
    assert [scan.labels["split"] for scan in find_scans([path]).scans] == ["test"] * 2 + ["train"] * 3


@pytest.mark.parametrize(
    ("arrays", "trouble"),
    [
        ({"train_images": np.zeros((3, 28, 28), "uint8")}, "a MedMNIST of 2D images: take a 3D one"),
        ({"val_images": np.zeros((1, 28, 28, 3), "uint8")}, "a MedMNIST of 2D images: take a 3D one"),
        ({"test_labels": np.zeros((3, 1))}, r"2 test images but labels of shape \(3, 1\)"),
        ({"test_labels": np.zeros(())}, r"2 test images but labels of shape \(\)"),
        ({"val_labels": np.array([[{}]])}, "its values are not numbers but Python objects"),
        ({"val_labels": np.array([["a"]])}, "its values are not numbers"),
    ],
)
def test_what_is_wrong_with_one_is_told_before_anything_is_read(tmp_path, arrays, trouble):
    with pytest.raises(VolumeError, match=trouble) as caught:
        find_scans([medmnist(tmp_path / "a.npz", **arrays)])
    assert str(caught.value).startswith("a.npz: ")
    assert "\n" not in str(caught.value)


def test_damaged_labels(tmp_path):
    path = medmnist(tmp_path / "a.npz", train_labels=np.random.default_rng(0).integers(0, 9, (3, 999)))
    content = bytearray(path.read_bytes())
    content[content.index(b"train_labels.npy") + 900] ^= 255
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=r"^a\.npz: not a readable \.npz .*: copy it again"):
        find_scans([path])


def test_one_array_of_it_is_asked_for(tmp_path):
    """Then it is a file of arrays as any other."""
    path = medmnist(tmp_path / "a.npz")
    found = find_scans([path], Selection(key="train_images", frame="all")).scans
    assert [scan.id for scan in found] == ["a__frame0", "a__frame1", "a__frame2"]
    with pytest.raises(VolumeError, match="3 frames: choose with --frame N"):
        read(path, key="train_images")


def test_without_one_of_its_arrays_it_is_an_npz_as_any_other(tmp_path):
    path = medmnist(tmp_path / "a.npz", val_labels=None)
    assert [scan.id for scan in find_scans([path]).scans] == ["a"]
    with pytest.raises(VolumeError, match="3 arrays that could be the scan"):
        read(path)


@pytest.mark.parametrize("size", ["", "_64"])
def test_the_real_one(shared, size):
    path = shared / f"medmnist3d/adrenalmnist3d{size}.npz"
    scans = {scan.id: scan for scan in find_scans([path]).scans}
    arrays = np.load(path)
    for split, count in {"train": 1188, "val": 98, "test": 298}.items():
        labels = [scans[f"{path.stem}__{split}__{number}"].labels for number in range(count)]
        assert [each["label"] for each in labels] == arrays[f"{split}_labels"].ravel().tolist()
        assert {each["split"] for each in labels} == {split}
    assert len(scans) == 1188 + 98 + 298
    for number, image in enumerate(arrays["val_images"]):
        volume = read_scan(scans[f"{path.stem}__val__{number}"])
        np.testing.assert_array_equal(volume.array, image)
        assert volume.affine is None

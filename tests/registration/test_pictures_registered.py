"""Slices as files, and scans that do not say where they lie."""

import json

import numpy as np
import pytest
from skimage.io import imsave

from featlift.registration import DisplacementField
from featlift.registration.slices import read_slice
from featlift.volumes.nifti import write_nifti
from tests.conftest import GOLDEN

QUICK = ("--search-cell", 3, "--reach", 3, "--iterations", 60)


@pytest.fixture
def slices(tmp_path):
    """A slice of a hippocampus and the same one moved by (3, -2) pixels, as PNG, and as NIfTI without a geometry."""
    whole = np.load(GOLDEN / "systems" / "registration.npz")["pair0/fixed"][20]
    for name, array in (("fixed", whole[3:53, 3:37]), ("moving", whole[0:50, 5:39])):
        for suffix in ("png", "tif"):
            imsave(tmp_path / f"{name}.{suffix}", array, check_contrast=False)
        write_nifti(tmp_path / f"{name}.nii.gz", array[None], None)
    return tmp_path


@pytest.mark.parametrize("suffix", ["png", "tif", "nii.gz"])
def test_run_and_apply(featlift, slices, suffix):
    scans = (f"fixed.{suffix}", f"moving.{suffix}")
    done = featlift("register", "run", *scans, "-o", "out", "--grid", "voxels", *QUICK)
    assert done.returncode == 0, done.stderr
    run = json.loads((slices / "out" / "run.json").read_text())
    assert run["geometry"] == "voxels"
    assert run["fixed"].keys() == {"id", "name", "bytes", "sha256"}
    field = DisplacementField.read(slices / "out" / "field.nii.gz")
    inner = field.vectors[:, 0, 10:-10, 8:-8]
    assert inner.mean(axis=(1, 2)) == pytest.approx([-2, 3, 0], abs=0.4), "x runs along the columns, y down the rows"
    there = ("--image", f"moving.{suffix}", "--like", f"fixed.{suffix}", "--grid", "voxels", "-o", "again.nii.gz")
    assert featlift("register", "apply", "out/field.nii.gz", *there).returncode == 0
    assert np.array_equal(*(read_slice(slices / name).array for name in ("again.nii.gz", "out/warped.nii.gz")))


def test_the_fixed_scan_says_where_all_lie(featlift, slices):
    affine = np.array([[0, 0, 0.5, 7], [0, 0.5, 0, 8], [4, 0, 0, 9], [0, 0, 0, 1.0]])
    write_nifti(slices / "placed.nii.gz", read_slice(slices / "fixed.nii.gz").array, affine)
    scans = ("placed.nii.gz", "moving.nii.gz")
    done = featlift("register", "run", *scans, "-o", "out", "--grid", "voxels", *QUICK)
    assert done.returncode == 0, done.stderr
    field = DisplacementField.read(slices / "out" / "field.nii.gz")
    assert field.affine == pytest.approx(affine)
    assert field.vectors[:, 0, 10:-10, 8:-8].mean(axis=(1, 2)) == pytest.approx([-1, 1.5, 0], abs=0.2)


def test_colours_are_luminance(tmp_path):
    red = np.zeros((4, 5, 4), np.uint8)
    red[..., 0], red[..., 3] = 200, 255
    imsave(tmp_path / "red.png", red, check_contrast=False)
    found = read_slice(tmp_path / "red.png")
    assert found.array.shape == (1, 4, 5)
    assert found.array == pytest.approx(200 * 0.2125)
    assert found.affine is None


def test_bad_input_in_one_line(featlift, slices):
    (slices / "broken.png").write_bytes(b"no picture")
    for scans, message in {
        ("fixed.png", "moving.png"): "--grid voxels",
        ("fixed.png", "broken.png"): "not a readable picture",
        ("fixed.png", "missing.png"): "no such file",
    }.items():
        done = featlift("register", "run", *scans, "-o", "out")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert message in done.stderr

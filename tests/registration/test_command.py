"""`featlift register`: from files to files, and what it says of bad ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from featlift import read
from featlift.metrics.scores import dice
from featlift.registration import DisplacementField
from featlift.volumes.nifti import write_nifti
from tests.conftest import GOLDEN

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
QUICK = ("--search-cell", 4, "--reach", 3, "--iterations", 30)


@pytest.fixture
def files(tmp_path):
    """A pair of hippocampi of two patients, and the labels of both."""
    arrays = np.load(GOLDEN / "systems" / "registration.npz")
    for name in ("fixed", "moving", "fixed_labels", "moving_labels"):
        write_nifti(tmp_path / f"{name}.nii.gz", arrays[f"pair1/{name}"], AFFINE)
    return tmp_path


def test_run_and_apply(featlift, files):
    done = featlift("register", "run", "fixed.nii.gz", "moving.nii.gz", "-o", "out", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "40 x 56 x 40 voxels of 1 x 1 x 1 mm" in done.stdout
    run = json.loads((files / "out" / "run.json").read_text())
    assert run["fixed"]["name"] == "fixed.nii.gz"
    assert run["settings"]["convex_adam"]["cell"] == 4
    assert {"sdlogj", "folds", "mean_mm", "max_mm"} == run["metrics"].keys()
    assert {"read", "features", "optimisation", "field", "write"} == run["seconds"].keys()
    assert str(files) not in json.dumps(run)
    assert (files / "out" / "picture.png").stat().st_size > 10_000

    field = sitk.ReadImage(str(files / "out" / "field.nii.gz"), sitk.sitkVectorFloat64)
    assert field.GetMetaData("intent_code") == "1007"
    scan, like = (sitk.ReadImage(str(files / f"{name}.nii.gz"), sitk.sitkFloat64) for name in ("moving", "fixed"))
    lowest = float(sitk.GetArrayFromImage(scan).min())
    theirs = sitk.Resample(scan, like, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, lowest)
    ours = read(files / "out" / "warped.nii.gz")
    assert np.abs(ours.array - sitk.GetArrayFromImage(theirs)).max() < 1e-3

    for name, labels in (("moving", ()), ("moving_labels", ("--labels",))):
        options = ("--image", f"{name}.nii.gz", "--like", "fixed.nii.gz", "-o", f"{name}_warped.nii.gz")
        assert featlift("register", "apply", "out/field.nii.gz", *options, *labels).returncode == 0
    assert np.array_equal(read(files / "moving_warped.nii.gz").array, ours.array)
    linear = (
        "--image",
        "moving_labels.nii.gz",
        "--like",
        "fixed.nii.gz",
        "--labels",
        "--label-interpolation",
        "linear",
    )
    assert featlift("register", "apply", "out/field.nii.gz", *linear, "-o", "linear.nii.gz").returncode == 0
    field_of_ours = DisplacementField.read(files / "out" / "field.nii.gz")
    labels = read(files / "moving_labels.nii.gz")
    shares = [
        field_of_ours.warp(replace(labels, array=(labels.array == label).astype(np.float32)), ours.array.shape, AFFINE)
        for label in (1, 2)
    ]
    most = np.argmax([1 - sum(shares), *shares], axis=0)
    assert (read(files / "linear.nii.gz").array != most).mean() < 1e-5  # of equal shares rounding decides
    truth, before, after = (
        read(files / f"{name}.nii.gz").array == 1 for name in ("fixed_labels", "moving_labels", "moving_labels_warped")
    )
    assert dice(after, truth) > dice(before, truth) + 0.05


def test_with_a_network(featlift, files):
    network = ("--model", "vit_tiny_patch16_224", "--model-arg", "depth=2", "--weights", "random:0", "--mode", "2d")
    options = (*network, "--size", "64,64,64", "--features", "both", "--components", 8, *QUICK)
    done = featlift("register", "run", "fixed.nii.gz", "moving.nii.gz", "-o", "out", *options)
    assert done.returncode == 0, done.stderr
    run = json.loads((files / "out" / "run.json").read_text())
    assert run["recipe"]["mode"] == "2d"
    assert run["settings"]["features"] == "both"


def moved(files, name, *shift):
    image = sitk.ReadImage(str(files / "moving.nii.gz"))
    image.SetOrigin(shift)
    sitk.WriteImage(image, str(files / name))


def test_bad_input_in_one_line(featlift, files):
    moved(files, "far.nii.gz", 500, 0, 0)
    write_nifti(files / "nowhere.nii.gz", read(files / "moving.nii.gz").array, None)
    vectors = np.zeros((3, 1, 4, 5, 6), np.float32)
    write_nifti(files / "small.nii.gz", vectors, AFFINE + np.pad(np.full((3, 1), -300.0), ((0, 1), (3, 0))), "vector")
    write_nifti(files / "zero.nii.gz", np.zeros((3, 1, 40, 56, 40), np.float32), AFFINE, "vector")
    there = ("--like", "fixed.nii.gz", "-o", "w.nii.gz")
    for call, message in {
        ("run", "fixed.nii.gz", "far.nii.gz", "-o", "out"): "do not overlap",
        ("run", "fixed.nii.gz", "nowhere.nii.gz", "-o", "out"): "does not say where it lies",
        ("run", "fixed.nii.gz", "missing.nii.gz", "-o", "out"): "no such file",
        ("run", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--features", "wrong"): "mind|model|both",
        ("run", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--smoothing", 2): "odd",
        ("run", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--grid-mm", 0): "millimetres",
        ("run", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--features", "model", "--model", "no"): "unknown model",
        ("apply", "small.nii.gz", "--image", "moving.nii.gz", *there): "another fixed scan",
        ("apply", "zero.nii.gz", "--image", "far.nii.gz", *there): "moving scan of this field",
        ("apply", "fixed.nii.gz", "--image", "moving.nii.gz", *there): "no displacement field",
        ("apply", "zero.nii.gz", "--image", "moving.nii.gz", *there[:3], "w.png"): "ends in .nii.gz",
        ("apply", "zero.nii.gz", "--image", "moving.nii.gz", "--like", "nowhere.nii.gz", *there[2:]): "--like",
    }.items():
        done = featlift("register", *call)
        assert done.returncode == 2, call
        assert done.stderr.count("\n") == 1, done.stderr
        assert message in done.stderr.replace(", ", "|").replace(" or ", "|"), (call, done.stderr)
        assert not (files / "out" / "run.json").exists()

"""Many pairs: from scans and from stores, skipped where they are done, refused before work starts."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import SimpleITK as sitk

from featlift import read
from featlift.registration import DisplacementField
from featlift.volumes.nifti import write_nifti
from tests.conftest import GOLDEN

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
QUICK = ("--search-cell", 4, "--reach", 2, "--one-way", "--iterations", 2)
NETWORK = ("--model", "vit_tiny_patch16_224", "--model-arg", "depth=2", "--weights", "random:0", "--mode", "2d")
SEEN = (*NETWORK, "--size", "48,48,48")


@pytest.fixture
def scans(tmp_path):
    """Three small scans, and pairs of them."""
    arrays = np.load(GOLDEN / "systems" / "registration.npz")
    (tmp_path / "scans").mkdir()
    for name, key in {"a": "pair0/fixed", "b": "pair1/fixed", "c": "pair1/moving"}.items():
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", arrays[key][8:32, 16:44, 8:32], AFFINE)
    listed(tmp_path, "a,b,train", "b,c,test", "a,c.nii.gz,test")
    return tmp_path


def listed(folder, *rows, header="fixed,moving,split"):
    (folder / "pairs.csv").write_text("\n".join([header, *rows]) + "\n")


def runs(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/run.json")}


def test_pairs_of_scans(featlift, scans):
    command = ("register", "run", "scans", "--pairs", "pairs.csv", "-o", "out", *QUICK)
    done = featlift(*command, "--split", "test")
    assert done.returncode == 0, done.stderr
    assert "2 pairs registered" in done.stdout
    found = runs(scans / "out")
    assert found.keys() == {"b--c", "a--c"}
    assert found["b--c"]["moving"]["id"] == "c"
    if sys.platform == "linux":
        assert found["b--c"]["peak_bytes"] > 10**8

    one = featlift("register", "run", "scans/b.nii.gz", "scans/c.nii.gz", "-o", "one", *QUICK)
    assert one.returncode == 0, one.stderr
    for name in ("field", "warped"):
        frame = 0 if name == "field" else None
        ours, alone = (read(scans / place / f"{name}.nii.gz", frame=frame) for place in ("out/b--c", "one"))
        assert np.array_equal(ours.array, alone.array)

    before = (scans / "out" / "b--c" / "field.nii.gz").stat().st_mtime_ns
    again = featlift(*command)
    assert again.returncode == 0, again.stderr
    assert "1 pair registered, 2 done before" in again.stdout
    assert (scans / "out" / "b--c" / "field.nii.gz").stat().st_mtime_ns == before

    write_nifti(scans / "scans" / "b.nii.gz", read(scans / "scans" / "b.nii.gz").array[::-1].copy(), AFFINE)
    changed = featlift(*command)
    assert "2 pairs registered, 1 done before" in changed.stdout, "both pairs of the scan that changed"

    other = featlift(*command[:-1], 3)
    assert other.returncode == 2
    assert "another plan" in other.stderr
    assert "settings.convex_adam.iterations (there 2, asked 3)" in other.stderr
    assert other.stderr.count("\n") == 1


def test_a_scan_that_cannot_be_registered_stops_no_other(featlift, scans):
    """Its header is right, so that it is found out only when it is read."""
    broken = read(scans / "scans" / "a.nii.gz").array
    broken[3, 3, 3] = np.nan
    write_nifti(scans / "scans" / "a.nii.gz", broken, AFFINE)
    done = featlift("register", "run", "scans", "--pairs", "pairs.csv", "-o", "out", *QUICK)
    assert done.returncode == 1
    assert "1 pair registered, 2 failed" in done.stdout
    assert "a--b" in done.stderr
    assert "NaN" in done.stderr
    assert runs(scans / "out").keys() == {"b--c"}


@pytest.fixture
def store(featlift, scans):
    done = featlift("extract", "scans", "-o", "store.zarr", *SEEN, "--layers", "0,1")
    assert done.returncode == 0, done.stderr
    return scans / "store.zarr"


def test_pairs_of_a_store(featlift, scans, store):
    """Features of the store are those that are made in memory, without a network and without scans."""
    listed(scans, "b,c", header="fixed,moving")
    options = ("--pairs", "pairs.csv", "--components", 4, *QUICK)
    made = featlift("register", "run", "scans", "-o", "made", "--features", "model", *SEEN, *options)
    assert made.returncode == 0, made.stderr
    (scans / "scans").rename(scans / "moved")
    stored = featlift("register", "run", "store.zarr", "-o", "stored", "--features", "model", *options)
    assert stored.returncode == 0, stored.stderr
    assert "no warped scans" in stored.stderr
    assert not (scans / "stored" / "b--c" / "warped.nii.gz").exists()
    fields = [DisplacementField.read(scans / place / "b--c" / "field.nii.gz").vectors for place in ("made", "stored")]
    assert np.abs(fields[0] - fields[1]).mean() < 0.05, "the store rounds to float16"
    assert np.abs(fields[0]).mean() > 0.1

    once_more = ("register", "run", "store.zarr", "-o", "stored", "--features", "model", *options)
    assert "1 done before" in featlift(*once_more).stdout
    assert "1 pair registered" in featlift(*once_more, "--images", "moved").stdout, "its warped scan was not there"
    assert (scans / "stored" / "b--c" / "warped.nii.gz").exists()

    both = featlift("register", "run", "store.zarr", "-o", "both", "--features", "both", "--images", "moved", *options)
    assert both.returncode == 0, both.stderr
    assert (scans / "both" / "b--c" / "warped.nii.gz").exists()
    shallow = featlift("register", "run", "store.zarr", "-o", "shallow", "--features", "model", "--layer", 0, *options)
    assert shallow.returncode == 0, shallow.stderr
    other = DisplacementField.read(scans / "shallow" / "b--c" / "field.nii.gz").vectors
    assert np.abs(other - fields[1]).max() > 0.1, "another layer"

    write_nifti(scans / "moved" / "b.nii.gz", read(scans / "moved" / "c.nii.gz").array, AFFINE)
    wrong = featlift("register", "run", "store.zarr", "-o", "w", "--features", "both", "--images", "moved", *options)
    assert wrong.returncode == 1
    assert "another file" in wrong.stderr

    for call, message in {
        ("store.zarr", "--features", "mind"): "--images",
        ("store.zarr", "--features", "model", "--layer", 7): "has 0, 1",
        ("store.zarr", "moved", "--features", "model"): "two stores",
        ("moved", "--features", "mind", "--images", "moved"): "--images is of stores",
        ("moved", "--features", "mind", "--layer", 1): "MIND has none",
    }.items():
        done = featlift("register", "run", *call, "-o", "refused", *options)
        assert done.returncode == 2, call
        assert message in done.stderr, (call, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
    assert not (scans / "refused").exists()


def test_stores_of_different_recipes(featlift, scans, store):
    done = featlift("extract", "scans", "-o", "other.zarr", *SEEN, "--layers", "1")
    assert done.returncode == 0, done.stderr
    call = ("register", "run", "store.zarr", "other.zarr", "--pairs", "pairs.csv", "-o", "out", "--features", "model")
    done = featlift(*call)
    assert done.returncode == 2
    assert "different recipes" in done.stderr
    assert "layers" in done.stderr
    assert done.stderr.count("\n") == 1


def test_bad_pairs_in_one_line(featlift, scans):
    write_nifti(scans / "scans" / "nowhere.nii.gz", np.ones((8, 8, 8), np.float32), None)
    image = sitk.ReadImage(str(scans / "scans" / "c.nii.gz"))
    image.SetOrigin((500, 0, 0))
    sitk.WriteImage(image, str(scans / "scans" / "far.nii.gz"))
    for rows, message in {
        ("a,b,train", "a,x,train"): "line 3: there is no case 'x'",
        (): "holds no pair",
        ("a,b,train", "b,b,train"): "line 3: b is paired with itself",
        ("a,b,train", "a,c,test", "a,b,test"): "line 4: the pair a--b stands there twice",
        ("a,nowhere,train",): "a--nowhere: the moving scan does not say where it lies",
        ("a,b,train", "far,a,train"): "far--a: the scans do not overlap",
        ("a,b,other",): "--split train: no pair is in it; the pairs have other",
    }.items():
        listed(scans, *rows)
        done = featlift("register", "run", "scans", "--pairs", "pairs.csv", "--split", "train", "-o", "out", *QUICK)
        assert done.returncode == 2, rows
        assert message in done.stderr, (rows, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
    (scans / "pairs.csv").write_text("")
    for call, message in {
        ("scans", "--pairs", "pairs.csv"): "it is empty",
        ("scans", "--pairs", "none.csv"): "no such file",
        ("none", "--pairs", "pairs.csv"): "no such file or folder",
        ("scans/a.nii.gz",): "FIXED and MOVING",
    }.items():
        done = featlift("register", "run", *call, "-o", "out", *QUICK)
        assert done.returncode == 2, call
        assert message in done.stderr, (call, done.stderr)
    assert not (scans / "out").exists()


def test_killed_and_run_again(featlift, scans):
    """SIGKILL while the second pair is written: what has a run.json is whole, and the next run makes the rest alike."""
    options = ("--pairs", "pairs.csv", "--search-cell", "4", "--reach", "2", "--iterations", "40")
    command = [sys.executable, "-m", "featlift.cli.main", "register", "run", "scans", "-o", "out", *options]
    process = subprocess.Popen(command, cwd=scans, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (scans / "out" / "b--c").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    whole = runs(scans / "out")
    assert "a--b" in whole
    assert "a--c" not in whole
    for name in whole:
        DisplacementField.read(scans / "out" / name / "field.nii.gz")
        assert read(scans / "out" / name / "warped.nii.gz").array.any()

    again = featlift("register", "run", "scans", "-o", "out", *options)
    assert again.returncode == 0, again.stderr
    assert f"{3 - len(whole)} pair" in again.stdout
    assert f"{len(whole)} done before" in again.stdout
    at_once = featlift("register", "run", "scans", "-o", "at_once", *options)
    assert at_once.returncode == 0, at_once.stderr
    for name in ("a--b", "b--c", "a--c"):
        fields = [DisplacementField.read(scans / place / name / "field.nii.gz").vectors for place in ("out", "at_once")]
        assert np.array_equal(*fields)
    files = {path.name for path in (scans / "out").rglob("*") if path.is_file()}
    assert files == {"field.nii.gz", "warped.nii.gz", "picture.png", "run.json"}

"""A wrong call or a broken file: one line, the right exit code, nothing left behind."""

import json
import os
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import zarr

from featlift import open_store
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti, write_scan
from tests.test_fixtures import FIXTURES

RNG = np.random.default_rng(0)
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.fixture
def model(tmp_path):
    return patch_mean_options(tmp_path, patch=4)


BROKEN = {
    "text": (lambda path: path.write_text("dear colleague\n" * 50), "not"),
    "empty": (lambda path: path.write_bytes(b""), "not"),
    "2d": (lambda path: write_nifti(path, RNG.normal(size=(20, 30))), "not a volume"),
    "4d": (lambda path: write_nifti(path, RNG.normal(size=(20, 30, 4, 2))), "--frame"),
    "rgb": (lambda path: write_nifti(path, np.zeros((8, 8, 8), RGB)), "colour"),
    "outside": (lambda path: write_nifti(path, RNG.uniform(3000, 4000, (8, 8, 8)).astype(np.float32)), "one side"),
    "nan": (lambda path: write_nifti(path, np.full((8, 8, 8), np.nan, np.float32)), "--nan-to"),
    "constant": (lambda path: write_nifti(path, np.full((8, 8, 8), 3, np.int16)), "nothing to see"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_line_and_no_store(featlift, tmp_path, model, kind):
    write, says = BROKEN[kind]
    (tmp_path / "scans").mkdir()
    write(tmp_path / "scans" / "bad.nii")
    before = sorted(tmp_path.rglob("*"))
    done = featlift("extract", "scans", *model, *(["--intensity", "ct:soft"] if kind == "outside" else []))
    assert done.returncode == 1
    table = done.stderr.strip().splitlines()[-2:]
    assert table[0].split() == ["case", "reason"]
    assert table[1].startswith("bad ")
    assert says in table[1]
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("cut", [0.01, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_one_line_and_the_others_go_on(featlift, tmp_path, model, cut):
    write_scan(tmp_path / "scans" / "good.nii.gz")
    content = (tmp_path / "scans" / "good.nii.gz").read_bytes()
    (tmp_path / "scans" / "cut.nii.gz").write_bytes(content[: int(cut * len(content))])
    done = featlift("extract", "scans", *model)
    assert done.returncode == 1
    assert "1 extracted, 1 failed" in done.stdout
    assert "cut.nii.gz: " in done.stderr.strip().splitlines()[-1]
    assert list(open_store(tmp_path / "features.zarr")) == ["good"]


WRONG_CALLS = {
    "unknown model": (["--model", "vits61"], "did you mean vits16"),
    "other family": (["--model", "vgg11"], "cannot lift"),
    "no weights file": (["--model", "vits16", "--weights", "nowhere.pth"], "does not exist"),
    "no hub": (["--model", "vits16"], "--weights FILE"),
    "wrong cycle": (["--cycle", "HW,WD"], "--cycle 'WD': choose one of HW, DW, DH"),
    "cycle in 2d": (["--mode", "2d", "--cycle", "HW"], "visits no planes"),
    "3d without rope": (["--mode", "3d"], "mode 3d needs"),
    "unknown mode": (["--mode", "pcx"], "choose one of"),
    "unknown layer": (["--layers", "12"], "has layers 0 to 0"),
    "unknown stride": (["--layers", "stride7"], "stride4"),
    "bad intensity": (["--intensity", "ct:liver"], "ct:lung"),
    "bad spacing": (["--spacing", "1,2"], "D,H,W"),
    "bad size": (["--size", "big"], "numbers separated by commas"),
    "bad orient": (["--orient", "RAS"], "LPS"),
    "bad model arg": (["--model-arg", "depth"], "KEY=VALUE"),
    "not timm's arg": (["--model-arg", "weights=random:0"], "options of its own"),
    "nonsense layer": (["--layers=--5"], "has layers 0 to 0"),
    "arg timm refuses": (["--model-arg", "colour=3"], "timm refuses"),
    "bad precision": (["--precision", "int3"], "choose one of"),
    "bad device": (["--device", "cuda:7"], "cannot be used"),
    "bad rope periods": (["--rope-periods", "bf16"], "no DINOv3 rotary embedding"),
    "no such option": (["--colour"], "No such option"),
}


@pytest.mark.parametrize("kind", WRONG_CALLS)
def test_a_wrong_call(featlift, tmp_path, model, kind):
    options, says = WRONG_CALLS[kind]
    write_scan(tmp_path / "scans" / "a.nii.gz")
    before = sorted(tmp_path.rglob("*"))
    if "--model" in options:
        model = []
    done = featlift("extract", "scans", *model, *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_inputs_that_are_not_there(featlift, tmp_path, model):
    (tmp_path / "empty").mkdir()
    for given, says in (("nowhere", "no such file"), ("empty", "no scans")):
        done = featlift("extract", given, *model)
        assert (done.returncode, says in done.stderr) == (2, True)
    assert not (tmp_path / "features.zarr").exists()


def test_a_store_that_is_not_ours(featlift, tmp_path, model):
    write_scan(tmp_path / "a.nii.gz")
    zarr.create_group(tmp_path / "other.zarr", attributes={"mine": 1})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("five years")
    (tmp_path / "file.zarr").write_text("")
    for output in ("other.zarr", "folder", "file.zarr"):
        for more in ([], ["--overwrite"]):
            done = featlift("extract", "a.nii.gz", "-o", output, *model, *more)
            assert done.returncode == 2, output
            assert done.stderr.count("\n") == 1
            assert "featlift" in done.stderr
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "five years"
    assert dict(zarr.open_group(tmp_path / "other.zarr").attrs) == {"mine": 1}
    for command in ("info", "verify", "index"):
        assert featlift(command, "other.zarr").returncode == 2
        assert featlift(command, "nowhere.zarr").returncode == 2


def test_a_store_of_a_later_format(featlift, tmp_path, model):
    write_scan(tmp_path / "a.nii.gz")
    assert featlift("extract", "a.nii.gz", *model).returncode == 0
    root = tmp_path / "features.zarr" / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["featlift"]["format"] = 99
    root.write_text(json.dumps(content))
    done = featlift("info", "features.zarr")
    assert done.returncode == 2
    assert "format 99" in done.stderr


def test_an_output_that_cannot_be_written(featlift, tmp_path, model):
    write_scan(tmp_path / "a.nii.gz")
    (tmp_path / "file").write_text("")
    for output in ("file/features.zarr", "/proc/features.zarr"):
        done = featlift("extract", "a.nii.gz", "-o", output, *model)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "cannot write" in done.stderr


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk(featlift, tmp_path, model):
    """One line, exit 2, and nothing half-written; with room again the same command goes on."""
    write_scan(tmp_path / "scans" / "a.nii.gz", shape=(256, 256, 40))
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        done = featlift("extract", "scans", "-o", small / "features.zarr", *model, "--mode", "2d")
        assert done.returncode == 2
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (small / "features.zarr").exists()
        subprocess.run(["mount", "-o", "remount,size=200m", small], check=True)
        assert featlift("extract", "scans", "-o", small / "features.zarr", *model, "--mode", "2d").returncode == 0
    finally:
        subprocess.run(["umount", small], check=True)


def test_values_beyond_float16_are_refused(featlift, tmp_path, model):
    write_nifti(tmp_path / "a.nii.gz", (RNG.normal(size=(16, 16, 4)) * 1e6).astype(np.float32))
    done = featlift("extract", "a.nii.gz", "--intensity", "none", *model)
    assert done.returncode == 1
    assert "float16 cannot" in done.stderr
    assert not (tmp_path / "features.zarr").exists()


def test_features_beyond_float16_are_refused_with_the_option_that_holds_them(featlift, tmp_path):
    """In float32 they are right: other precision would not help."""
    write_scan(tmp_path / "a.nii.gz", shape=(16, 16, 4))
    call = ("extract", "a.nii.gz", "--mode", "2d", *patch_mean_options(tmp_path, constant=1e6))
    done = featlift(*call)
    assert done.returncode == 1
    assert "float16 cannot" in done.stderr
    assert "--save-dtype float32" in done.stderr
    assert "--precision" not in done.stderr
    assert featlift(*call, "--save-dtype", "float32").returncode == 0


def test_two_scans_with_one_id(featlift, tmp_path, model):
    write_scan(tmp_path / "scans" / "a.nii.gz")
    write_scan(tmp_path / "scans" / "a.nii")
    done = featlift("extract", "scans", *model)
    assert done.returncode == 2
    assert "two scans with the id a" in done.stderr


def test_traceback_on_request(featlift, tmp_path, model):
    import featlift as package

    write_scan(tmp_path / "a.nii.gz")
    with pytest.raises(package.errors.ModelError):
        featlift("--traceback", "extract", "a.nii.gz", "--model", "nonsense")


def test_nan_can_be_replaced(featlift, tmp_path, model):
    scan = RNG.normal(size=(16, 16, 4)).astype(np.float32)
    scan[:3] = np.nan
    nib.save(nib.Nifti1Image(scan, OBLIQUE), tmp_path / "a.nii.gz")
    assert featlift("extract", "a.nii.gz", "--nan-to", "0", *model).returncode == 0
    assert open_store(tmp_path / "features.zarr").recipe["nan_to"] == 0


def test_memory_that_is_not_there_is_one_line(featlift, tmp_path):
    """32 TB of weights, which torch asks for in one piece."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    train = ("segment", "train", "layers.zarr", "--masks", "labels", "--head", "decoder", "--device", "cpu", "-o", "h")
    done = featlift(*train, "--width", 10**12)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("featlift: out of memory (")
    assert "--width" in line
    with pytest.raises(RuntimeError):
        featlift("--traceback", *train, "--width", 10**12)

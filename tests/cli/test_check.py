"""`featlift check`: what extract would trip over, from real files, with exit codes to rely on."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

from tests.support import series as dicom
from tests.support.files import noise, save
from tests.support.scans import write_nifti, write_scan

TINY = ["--model", "vit_tiny_patch16_224"]
for argument in ("img_size=32", "patch_size=4", "embed_dim=8", "depth=2", "num_heads=1"):
    TINY += ["--model-arg", argument]


@pytest.fixture
def cohort(tmp_path):
    """A folder in which much goes wrong."""
    scans = tmp_path / "scans"
    for seed in range(3):
        write_scan(scans / f"good{seed}.nii.gz", seed)
    write_scan(scans / "good0.nii", 7)
    dicom.save(scans / "gap", [one for number, one in enumerate(dicom.slices(8)) if number != 4])
    dicom.save(scans / "ct", dicom.slices())
    save(scans / "1.nrrd", noise((40, 36, 6)).T)
    np.save(scans / "plain.npy", noise((6, 40, 36)))
    write_nifti(scans / "time.nii", noise((20, 30, 4, 2)))
    (scans / "letter.nii").write_text("dear colleague\n" * 50)
    nan = noise((40, 36, 6), "float32")
    nan[3] = np.nan
    write_nifti(scans / "nan.nii", nan)
    content = write_nifti(scans / "cut.nii.gz", noise((90, 90, 20))).read_bytes()
    (scans / "cut.nii.gz").write_bytes(content[:-100])
    return scans


def test_a_cohort_with_everything(featlift, cohort, tmp_path):
    done = featlift("check", "scans", *TINY, "--voxels", "--csv", "rows.csv")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    out = done.stdout
    lines = out.splitlines()
    assert len(lines) < 50
    levels = [line.split()[0] for line in lines if line.startswith(("FAIL", "WARN", "NOTE"))]
    assert levels == sorted(levels, key=["FAIL", "WARN", "NOTE"].index)
    for says in (
        "two scans with the id good0",
        "1 slice missing",
        "--frame",
        "not a NIfTI file",
        "--nan-to",
        "copy it again",
    ):
        assert says in out, says
    assert "1 of 8 scans do not say where they lie" in out
    assert "11 scans, 6 of them usable" in out
    assert "headers and voxels of all" not in out  # those that failed before were not read
    rows = {row["id"]: row for row in csv.DictReader((tmp_path / "rows.csv").open())}
    assert len(rows) == 11
    assert {name.partition("__")[0] for name, row in rows.items() if row["failure"]} == {
        "gap",
        "time",
        "letter",
        "nan",
        "cut",
    }
    assert (rows["plain"]["orientation"], rows["plain"]["shape_d"], rows["plain"]["spacing_d"]) == ("", "6", "")
    assert next(row for name, row in rows.items() if name.startswith("ct__"))["modality"] == "CT"
    done = featlift("extract", "scans", "-o", "a.zarr", *TINY, "--weights", "random:0", "--exclude", "good0.nii")
    failed = {line.split()[0] for line in done.stderr.splitlines()[-5:]}
    assert failed == {name for name, row in rows.items() if row["failure"]}


def test_headers_only_says_what_was_not_looked_at(featlift, cohort):
    done = featlift("check", "scans", *TINY, "--json")
    report = json.loads(done.stdout)
    assert report["totals"]["voxels_read"] == 0
    assert {case["id"] for case in report["cases"] if case["failure"]}.isdisjoint({"nan", "cut"})
    out = featlift("check", "scans", *TINY, "--sample", "4").stdout
    assert re.search("voxels of [1-4]; damaged data, NaN", out)
    assert "--voxels" in out


def test_a_good_cohort_and_how_large_its_store_becomes(featlift, tmp_path):
    for seed, shape in enumerate([(120, 100, 30), (110, 120, 25), (130, 130, 18)]):
        write_scan(tmp_path / "scans" / f"{seed}.nii.gz", seed, shape)
    options = [*TINY, "--layers", "0,1", "--mode", "2d"]
    done = featlift("check", "scans", *options, "--json", "--measure", "--device", "cpu", "--sample", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["totals"]["voxels_read"] == 2
    assert not [finding for finding in report["findings"] if finding["level"] == "FAIL"]
    assert report["time"]["id"] == "1"
    assert set(report["time"]["seconds"]) == {"read", "prepare", "lift"}
    assert featlift("extract", "scans", *options, "--weights", "random:0").returncode == 0
    stored = sum(file.stat().st_size for file in (tmp_path / "features.zarr" / "volumes").rglob("*") if file.is_file())
    assert report["store_bytes"] == pytest.approx(stored, rel=0.05)


def test_a_scan_that_cannot_be_measured(featlift, tmp_path):
    scan = noise((40, 36, 6), "float32")
    scan[3] = np.nan
    write_nifti(tmp_path / "nan.nii", scan)
    done = featlift("check", "nan.nii", *TINY, "--measure", "--device", "cpu")
    assert done.returncode == 0
    assert "not measured: 216 voxels are NaN" in done.stdout


def test_a_wrong_call(featlift, tmp_path):
    write_scan(tmp_path / "a.nii.gz")
    for options, says in (
        (["nowhere"], "no such file"),
        (["a.nii.gz", "--spacing", "1,2"], "D,H,W"),
        (["a.nii.gz", "--intensity", "ct:liver"], "ct:lung"),
        (["a.nii.gz", "--model", "vits61"], "did you mean vits16"),
        (["a.nii.gz", *TINY, "--layers", "9"], "has layers 0 to 1"),
        (["a.nii.gz", *TINY, "--csv", "nowhere/rows.csv"], "cannot write"),
    ):
        done = featlift("check", *options)
        assert (done.returncode, says in done.stderr) == (2, True), done.stderr
        assert done.stderr.count("\n") == 1


def test_real_scans(featlift, shared):
    """Scans of scanners: a CT in HU, MR with thick slices, masks beside their scans."""
    done = featlift("check", shared / "lesions", "--mask-pattern", "*_label.nrrd", "--voxels", *TINY, "--json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    cases = {case["id"]: case for case in report["cases"]}
    assert cases["lung1_image"]["shape"] == [48, 512, 512]
    assert cases["lung1_image"]["minimum"] < -1000
    assert {case["mask"] for case in cases.values()} == {"same grid"}
    assert any("squeezed" in finding["what"] for finding in report["findings"])
    hu = featlift(
        "check", shared / "lesions", "--glob", "*image*", "--voxels", "--intensity", "ct:soft", *TINY, "--json"
    )
    (not_hu,) = (each for each in json.loads(hu.stdout)["findings"] if "HU of air" in each["what"])
    assert "lung1_image" not in not_hu["ids"]
    assert "brain1_image" in not_hu["ids"]


def test_weights_that_are_not_here_are_told(featlift_process, tmp_path):
    """They are needed for nothing here, so that nothing fails; `extract` would."""
    write_scan(tmp_path / "a.nii.gz", shape=(130, 130, 30))
    done = featlift_process("check", "a.nii.gz", HF_HOME=str(tmp_path / "empty"))
    assert done.returncode == 0, done.stderr
    assert "WARN  no weights here for vitb16: not on this machine" in done.stdout
    assert "hf download timm/vit_base_patch16_dinov3_qkvb.lvd1689m model.safetensors" in done.stdout
    assert "--weights FILE" in done.stdout
    assert "no weights" not in featlift_process("check", "a.nii.gz", "--model", "efficientnet-lite0").stdout


def test_regions_are_looked_at_as_they_will_be_lifted(featlift, tmp_path):
    """From headers and masks alone; with their voxels the same."""
    write_scan(tmp_path / "scans" / "p1.nii.gz")
    mask = np.zeros((40, 36, 6), np.float32)
    mask[4:9, 5:9, 1:4] = mask[30:34, 20:26, 2:5] = 1
    write_nifti(tmp_path / "lesions" / "p1.nii.gz", mask)
    given = ["check", "scans", "--roi", "lesions", "--roi-mm", "12", *TINY, "--json"]
    headers, voxels = (json.loads(featlift(*given, *more).stdout)["cases"] for more in ((), ("--voxels",)))
    assert [row["id"] for row in headers] == ["p1__roi1", "p1__roi2"]
    for one, other in zip(headers, voxels, strict=True):
        assert one["lifted_shape"] == other["lifted_shape"]
        assert one["lifted_shape"] != one["shape"]
    alone = featlift("check", "scans", "--roi", "lesions", *TINY)
    assert alone.stderr == "featlift: --roi and --roi-mm belong together: where the regions are, and how large\n"

"""The size that is told before a run is the size that is there after it."""

import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest

from featlift import Preparation
from featlift.extraction import OutputSpec
from featlift.lifting import FeatureLayer
from featlift.store.forecast import FeatureSizes, forecast
from featlift.volumes import find_scans
from tests.extraction.test_inputs import write_everywhere
from tests.support import series as dicom
from tests.support.scans import patch_mean_options, write_nifti, write_scan

VIT = ["--model", "vits16", "--weights", "random:0", "--precision", "fp32"]
VIT += [option for each in ("embed_dim=64", "depth=2", "num_heads=1") for option in ("--model-arg", each)]
LITE0 = ["--model", "efficientnet-lite0", "--mode", "2d", "--layers"]


def on_disk(store):
    """Bytes of its volumes."""
    return sum(path.stat().st_size for path in (store / "volumes").glob("*/**/*") if path.is_file())


def foretold(done):
    """Bytes and volumes that a run announced: three digits of a size, so half a percent at most is lost."""
    found = re.search(r"about ([\d.]+) ([kMGT]?)B for ([\d,]+) volume", done.stderr)
    return float(found[1]) * 1000 ** " kMGT".index(found[2] or " "), int(found[3])


CASES = {
    "vit, two layers, int8": [*VIT, "--layers", "0,-1", "--save-dtype", "int8"],
    "3d, float32, reduced": [*VIT, "--mode", "3d", "--save-dtype", "float32", "--reduce", "random:16"],
    "fewer slices, another grid, cls": [*VIT, "--depth-stride", "2", "--spacing", "2,1,0.8", "--embedding", "cls-mean"],
    "cnn, two strides, three windows": [*LITE0, "1,2", "--intensity", "ct:-500,500+-300,300+0,200"],
}
MORE = {
    "vit, pcg": VIT,
    "a size, no scan": [*VIT, "--size", "300", "--save", "dense,tokens"],
    "embedding": [*VIT, "--save", "scan,embedding"],
    "cnn, padded, native": [*LITE0, "-1", "--orient", "native"],
}


@pytest.mark.parametrize(
    "options",
    [*CASES.values(), *(pytest.param(each, marks=pytest.mark.soak) for each in MORE.values())],
    ids=[*CASES, *MORE],
)
def test_the_forecast_is_what_is_written(featlift, tmp_path, options):
    write_scan(tmp_path / "scans/a.nii.gz", 0, (110, 90, 20))
    write_scan(tmp_path / "scans/b.nii", 1, (77, 93, 17))
    np.save(tmp_path / "scans/c.npy", np.random.default_rng(0).normal(size=(20, 90, 110)).astype(np.float32))
    if "--spacing" in options:  # which an array without geometry cannot have
        (tmp_path / "scans/c.npy").unlink()
    done = featlift("extract", "scans", *options)
    assert done.returncode == 0, done.stderr
    assert foretold(done)[0] == pytest.approx(on_disk(tmp_path / "features.zarr"), rel=0.02)


def test_every_format_by_its_header(featlift, tmp_path):
    write_everywhere(tmp_path / "scans", np.stack([dicom.stored(number) for number in range(6)]))
    done = featlift("extract", "scans", *patch_mean_options(tmp_path, patch=4), "--mode", "2d", "--size", "160")
    assert done.returncode == 0, done.stderr
    assert foretold(done) == (pytest.approx(on_disk(tmp_path / "features.zarr"), rel=0.02), 12)


def test_regions_and_body_crops(featlift, tmp_path):
    scan = np.zeros((120, 110, 24), np.int16)
    scan[30:90, 30:80, 4:20] = 100 + np.random.default_rng(0).integers(0, 20, (60, 50, 16))
    write_nifti(tmp_path / "scans/a.nii.gz", scan)
    write_nifti(tmp_path / "labels/a.nii.gz", (scan > 0).astype(np.uint8))
    region = ["--roi", "labels", "--roi-mm", "30,60,70"]
    done = featlift("extract", "scans", *VIT, *region, "-o", "roi.zarr")
    assert done.returncode == 0, done.stderr
    assert foretold(done)[0] == pytest.approx(on_disk(tmp_path / "roi.zarr"), rel=0.02)
    done = featlift("extract", "scans", *VIT, "--crop", "body:0", "-o", "body.zarr")
    assert "at most about" in done.stderr
    assert foretold(done)[0] > on_disk(tmp_path / "body.zarr")


def test_large_cohorts_are_judged_by_some_of_their_headers(tmp_path):
    (tmp_path / "scans").mkdir()
    for number in range(230):
        np.save(tmp_path / f"scans/{number:03}.npy", np.zeros((3 + number % 2, 32, 32), np.float32))
    (tmp_path / "scans/100.npy").write_bytes(b"no array")
    scans = find_scans([tmp_path / "scans"]).scans
    sizes = FeatureSizes((FeatureLayer(11, "blocks.11", 384, (1, 16, 16), (0, 7.5, 7.5)),), (1, 16, 16), ("cls",))
    some, every = (forecast(scans, Preparation(), sizes, OutputSpec(), most=most) for most in (200, 1000))
    assert (some.volumes, some.sampled, every.sampled) == (230, 200, 230)
    assert list(every.refused) == ["100"]
    assert some.bytes == pytest.approx(every.bytes, rel=0.02)
    assert forecast([], Preparation(), sizes, OutputSpec()).bytes == 0


@pytest.fixture
def command(tmp_path):
    write_scan(tmp_path / "a.nii.gz")
    options = [*patch_mean_options(tmp_path, patch=4), "--mode", "2d", "--confirm-above", "20kB"]
    return [sys.executable, "-m", "featlift.cli.main", "extract", "a.nii.gz", *options]


@pytest.mark.parametrize(("answer", "code"), [("n", 2), ("y", 0)])
def test_a_large_store_is_asked_about_on_a_terminal(command, tmp_path, answer, code):
    ours, terminal = pty.openpty()
    with subprocess.Popen(command, cwd=tmp_path, stdin=terminal, stderr=subprocess.PIPE, text=True) as process:
        os.write(ours, f"{answer}\n".encode())
        _, stderr = process.communicate(timeout=600)
    os.close(ours)
    os.close(terminal)
    assert process.returncode == code, stderr
    assert "Write it? [y/N]" in stderr
    assert (tmp_path / "features.zarr").exists() == (code == 0)


def test_a_large_store_needs_a_yes_where_nobody_can_be_asked(featlift, command, tmp_path):
    refused = subprocess.run(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "more than --confirm-above 20 kB: give --yes" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "features.zarr").exists()
    assert featlift(*command[3:], "--yes").returncode == 0
    assert "nothing to do" in featlift(*command[3:]).stdout  # what is there already needs no yes


def test_a_size_that_is_none(featlift, command):
    done = featlift(*command[3:], "--confirm-above", "much")
    assert (done.returncode, "--confirm-above 'much': give a size" in done.stderr) == (2, True)

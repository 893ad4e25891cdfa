"""A package that brings an encoder: installed by pip into a folder, found by a process that has it on its path."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import featlift
from tests.support.scans import write_nifti

PACKAGE = Path(__file__).parent / "example_package"


@pytest.fixture
def path_with_plugin(tmp_path):
    """PYTHONPATH of processes that have the package."""
    source = shutil.copytree(PACKAGE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index")
    done = subprocess.run([*pip, "--target", tmp_path / "site", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return os.pathsep.join(filter(None, (str(tmp_path / "site"), os.environ.get("PYTHONPATH"))))


def test_a_package_brings_an_encoder(tmp_path, featlift_process, path_with_plugin):
    there = {"PYTHONPATH": path_with_plugin}
    listed = {each["name"]: each for each in json.loads(featlift_process("models", "--json", **there).stdout)}
    assert listed["means"] == {"name": "means", "package": "featlift-means 1.2", "is_here": True, "mode": "native"}

    noise = np.random.default_rng(0).normal(size=(32, 24, 16)).astype(np.float32)
    write_nifti(tmp_path / "scans" / "a.nii.gz", noise)
    options = ("extract", "scans", "--mode", "native", "--layers", "0,1", "--device", "cpu")
    done = featlift_process(*options, "--model", "means", "--workers", "1", **there)
    assert done.returncode == 0, done.stderr
    store = featlift.open_store(tmp_path / "features.zarr")
    assert store.recipe["intensity"] == "minmax"
    case = store["a"]
    assert case.layers[1].stride == (4, 8, 8)
    block = case.scan[:2, :4, :4].astype(np.float32)
    np.testing.assert_allclose(case.layers[0].dense[0, 0, 0, 0], block.mean(), atol=2e-3)

    done = featlift_process(*options, "--model", "broken", "-o", "other.zarr", **there)
    assert "broken, of featlift-means 1.2, is no encoder: it lacks name, feature_layers" in done.stderr
    assert done.stderr.count("\n") == 1
    done = featlift_process(*options, "--model", "mean", "-o", "other.zarr", **there)
    assert done.stderr == "featlift: 'mean' is no native 3D network: did you mean means?\n"
    assert not (tmp_path / "other.zarr").exists()


def test_without_the_package_there_is_none(featlift):
    assert "means" not in {each["name"] for each in json.loads(featlift("models", "--json").stdout)}

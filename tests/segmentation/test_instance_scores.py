"""`segment score --metric`: files in, a result out that `compare` takes, and one line where there is no score."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from featlift.results.result import read_result
from tests.conftest import GOLDEN

ARRAYS = np.load(GOLDEN / "systems" / "em.npz")
SCORES = json.loads((GOLDEN / "systems" / "em.json").read_text())["scores"]
NEURONS = "volumes/labels/neuron_ids"
LARGE = 2**60


def write_cremi(path: Path, ids: np.ndarray, resolution: tuple[float, ...] | None = (40, 4, 4)) -> str:
    """A file of CREMI's layout, its ids beyond what float64 can tell apart."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(NEURONS, data=np.where(ids, ids.astype(np.uint64) + np.uint64(LARGE), 0))
        if resolution:
            dataset.attrs["resolution"] = resolution
        file.create_dataset("volumes/raw", data=np.zeros(ids.shape, np.uint8))
    return f"{path.name}::{NEURONS}"


@pytest.fixture
def truth(tmp_path) -> str:
    return write_cremi(tmp_path / "sample_A.hdf", ARRAYS["labels"])


def test_a_file_of_cremi_and_two_results_compared(featlift, tmp_path, truth):
    for name in ("merged", "oversplit"):
        found = write_cremi(tmp_path / f"{name}.h5", ARRAYS[f"segmentation/{name}"])
        done = featlift("segment", "score", found, "--masks", truth, "--metric", "voi,arand")
        assert done.returncode == 0, done.stderr
        result = read_result(tmp_path / "results" / f"{name}-instances.json")
        want = SCORES[name]
        for measure in ("voi", "voi_split", "voi_merge", "arand"):
            assert result.measures[measure].mean == pytest.approx(want[measure], abs=1e-9)
        (case,) = result.cases
        assert (case["id"], case["objects"], case["segments"]) == ("sample_A", 60, want["segments"])
        assert result.protocol == {"name": "skimage", "ignored": [0], "border_nm": 0.0, "resolution_nm": []}
        assert "VOI bits" in done.stdout
    results = tmp_path / "results"
    done = featlift("compare", results / "merged-instances.json", results / "oversplit-instances.json")
    assert done.returncode == 0, done.stderr
    assert f"{SCORES['oversplit']['arand']:.3f}" in done.stdout


def test_a_folder_of_segmentations_and_their_masks(featlift, tmp_path):
    labels = ARRAYS["labels"][:4, :32, :32]
    for folder in ("found", "truth"):
        (tmp_path / folder).mkdir()
        for case_id in "ab":
            np.save(tmp_path / folder / f"{case_id}.npy", labels)
    np.save(tmp_path / "found" / "c.npy", labels)
    done = featlift("segment", "score", "found", "--masks", "truth", "--metric", "arand")
    assert done.returncode == 0, done.stderr
    assert "1 of 3 segmentations have no mask: c" in done.stderr
    result = read_result(tmp_path / "results" / "found-instances.json")
    assert [case["id"] for case in result.cases] == ["a", "b"]
    assert result.left_out == ["c"]
    assert result.measures.keys() == {"arand", "arand_precision", "arand_recall"}
    assert result.measures["arand"].mean == 0


def test_conventions_of_cremi(featlift, tmp_path, truth):
    """A border in nanometres, 0 as an object of the truth, and a protocol that is not compared with the other."""
    found = write_cremi(tmp_path / "found.h5", ARRAYS["segmentation/with_background"])
    assert featlift("segment", "score", found, "--masks", truth, "--metric", "voi,arand").returncode == 0
    options = ("--convention", "cremi", "--border", 8)
    done = featlift("segment", "score", found, "--masks", truth, "--metric", "voi,arand", *options)
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "results").glob("*.json"))
    result = read_result(tmp_path / "results" / "found-instances-cremi.json")
    assert result.protocol["ignored"] == [2**64 - 1]
    assert result.measures["voi"].mean < SCORES["with_background"]["voi"]  # what is wrong lies at borders
    done = featlift("compare", *files)
    assert done.returncode != 0
    assert "protocol" in done.stderr


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda ids: ids[:, :-1], (), "sample_A: a segmentation of 24 x 127 x 128 voxels, a truth of 24 x 128 x 128"),
        (lambda ids: ids.astype(np.float32), (), "sample_A: found.npy: no ids of objects: its voxels are float32"),
        (lambda ids: ids, ("--metric", "dice"), "--metric dice compares voxels of one label, and ids of instances are"),
        (lambda ids: ids, ("--metric", "vio"), "--metric 'vio': choose one of voi, arand"),
        (lambda ids: ids, ("--border", 8, "--masks", "truth.npy"), "truth: --border 8 is in nanometres, and no file"),
        (lambda ids: ids, ("--border", 8, "--resolution", "40,4,8"), "sample_A: --border 8: voxels of 40 x 4 x 8 nm"),
        (lambda ids: ids, ("--resolution", "4"), "--resolution 4: give nanometres along d,h,w"),
        (lambda ids: ids, ("--ignore", "-1"), "--ignore -1: ids are from 0"),
        (lambda ids: ids, ("--predictions", "x"), "--metric scores instances: give their segmentation in the place"),
        (lambda ids: ids, ("--masks", "none.npy"), "none: no object in the truth"),
        (
            lambda ids: ids,
            ("--masks", "one.npy"),
            "one: one object in the truth (id 1), and scores of instances are of",
        ),
        (lambda ids: ids, ("--masks", "missing.npy"), "missing.npy"),
    ],
)
def test_what_is_refused_is_one_line(featlift, tmp_path, truth, change, options, says):
    labels = ARRAYS["labels"]
    for name, array in (("truth", labels), ("none", labels * 0), ("one", (labels > 30).astype(np.uint8))):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "found.npy", change(labels))
    done = featlift("segment", "score", "found.npy", "--masks", truth, "--metric", "voi,arand", *options)
    assert done.returncode != 0
    assert done.stderr.startswith(f"featlift: {says}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_options_of_instances_without_a_metric(featlift, truth):
    done = featlift("segment", "score", "found.npy", "--masks", truth, "--border", 8)
    assert "are of instances: give --metric voi,arand" in done.stderr
    done = featlift("segment", "score", "found.npy", "--masks", truth)
    assert done.stderr.startswith("featlift: --predictions: give the folder")

"""Masks that name their structures, in every command that takes masks: the numbers of label files, with names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = {"front": 1, "rear": 2}


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A store, its masks as label files, and the same as folders with a file for each structure."""
    shutil.copytree(FIXTURES / "layers.zarr", tmp_path / "layers.zarr")
    shutil.copytree(FIXTURES / "labels", tmp_path / "labels")
    for path in (tmp_path / "labels").iterdir():
        image = nib.load(path)
        folder = tmp_path / "named" / path.name.removesuffix(".nii.gz")
        folder.mkdir(parents=True)
        for name, label in NAMES.items():
            structure = (np.asarray(image.dataobj) == label).astype(np.uint8)
            nib.save(nib.Nifti1Image(structure, image.affine), folder / f"{name}.nii.gz")
    return tmp_path


def measures(path: Path) -> dict:
    return json.loads(path.read_text())["measures"]


@pytest.mark.parametrize("command", [("featdice",), ("probe", "--dense", "--labels", FIXTURES / "labels.csv")])
def test_scores_are_those_of_label_files_and_tables_have_names(featlift, cohort, command):
    name, *options = command
    for masks in ("labels", "named"):
        done = featlift(name, "layers.zarr", *options, "--masks", masks, "-o", masks + "-results")
        assert done.returncode == 0, done.stderr
    (file,) = (cohort / "named-results").glob("*.json")
    assert measures(file) == measures(cohort / "labels-results" / file.name)
    assert "Dice of front" in done.stdout
    assert "Dice of rear" in done.stdout


def test_regions_have_names_and_those_that_are_not_wanted_are_left_out(featlift, cohort):
    done = featlift("regions", "layers.zarr", "--masks", "named", "--label-names", "5=rear")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(cohort / "regions.parquet")
    assert set(zip(table["region"].to_pylist(), table["name"].to_pylist(), strict=True)) == {(5, "rear")}
    done = featlift("regions", "layers.zarr", "--masks", "named", "--label-names", "1=liver")
    assert (done.returncode, "they are front, rear" in done.stderr) == (2, True)


def test_a_head_keeps_the_names_and_its_labels_are_those_of_other_folders(featlift, cohort):
    """Where it is scored another structure comes first, which would move the numbers."""
    train = ("segment", "train", "layers.zarr", "--masks", "named", "--head", "linear", "--epochs", "1", "-o", "head")
    done = featlift(*train)
    assert done.returncode == 0, done.stderr
    assert json.loads((cohort / "head/config.json").read_text())["labels"] == {
        "0": "background",
        "1": "front",
        "2": "rear",
    }
    assert featlift("segment", "predict", "layers.zarr", "--head", "head", "-o", "found", "--case", "e").returncode == 0
    score = ("segment", "score", "layers.zarr", "--predictions", "found", "--masks")
    assert featlift(*score, "labels", "-o", "first").returncode == 0
    shutil.copy(cohort / "named/e/rear.nii.gz", cohort / "named/e/above.nii.gz")
    done = featlift(*score, "named", "-o", "second")
    assert done.returncode == 0, done.stderr
    (file,) = (cohort / "second").glob("*.json")
    assert measures(file) == measures(cohort / "first" / file.name)


def test_pictures_and_the_viewer_name_labels(featlift, cohort):
    done = featlift("pca", "layers.zarr", "--case", "a", "--masks", "named", "--formats", "svg", "--dpi", "60")
    assert done.returncode == 0, done.stderr
    picture = (cohort / "pictures/a.svg").read_text()
    assert ">front<" in picture
    assert ">rear<" in picture
    names = ("--label-names", "1=heart,2=liver")
    done = featlift("pca", "layers.zarr", "--case", "a", "--masks", "labels", *names, "--formats", "svg", "--dpi", "60")
    assert done.returncode == 0, done.stderr
    assert ">liver<" in (cohort / "pictures/a.svg").read_text()
    done = featlift("view", "layers.zarr", "--case", "a", "--masks", "named")
    assert done.returncode == 0, done.stderr
    assert '"labelNames":["front","rear"]' in (cohort / "view.html").read_text()
    done = featlift("view", "layers.zarr", "--label-names", "1=heart")
    assert (done.returncode, "--label-names: say with --masks" in done.stderr) == (2, True)


def test_a_report_names_labels_of_results_that_do_not(featlift, cohort):
    shutil.copytree(FIXTURES / "results", cohort / "results")
    done = featlift("report", "layers.zarr", "--results", "results", "--label-names", "1=heart,2=liver")
    assert done.returncode == 0, done.stderr
    assert "Dice of liver" in (cohort / "report.html").read_text()

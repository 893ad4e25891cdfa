"""Many pairs of two dimensions: files of one slice are registered, scored and trained on as volumes are."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

QUICK = ("--search-cell", "4", "--reach", "3", "--iterations", "30")


@pytest.fixture
def hearts(tmp_path):
    """Rings of two sizes, six pairs, as 2D files of SimpleITK, with labels of the inside and the wall."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["fixed", "moving", "split"])
        for number, split in enumerate(["train", "train", "val", "test", "test"]):
            for phase, radius in (("ed", 16), ("es", 12)):
                distance = np.hypot(rows - 32 - rng.normal(0, 2), columns - 32 - rng.normal(0, 2))
                inside, wall = distance < radius, (distance >= radius) & (distance < radius + 5)
                image = np.where(inside, 40, np.where(wall, 160, 90)) + rng.normal(0, 10, distance.shape)
                for folder, array in (("images", image.astype(np.float32)), ("labels", (inside + 2 * wall))):
                    image_2d = sitk.GetImageFromArray(array.astype(np.float32))
                    image_2d.SetSpacing((0.8, 0.8))
                    sitk.WriteImage(image_2d, tmp_path / folder / f"p{number}_{phase}.nii.gz")
            table.writerow([f"p{number}_ed", f"p{number}_es", split])
    return tmp_path


def test_they_are_registered_and_scored(featlift, hearts):
    done = featlift("register", "run", "images", "--pairs", "pairs.csv", "--split", "test", "-o", "out", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "2 pairs registered" in done.stdout
    run = json.loads((hearts / "out/p3_ed--p3_es/run.json").read_text())
    assert run["grid"]["shape"] == [1, 64, 64]
    done = featlift("register", "score", "out", "--masks", "labels", "--unregistered")
    assert done.returncode == 0, done.stderr
    after, before = (
        json.loads((hearts / f"results/{name}.json").read_text())["measures"]["dice"]["mean"]
        for name in ("out-registration", "out-registration-unregistered")
    )
    assert after > 0.9 > before


def test_a_network_is_trained_on_them(featlift, hearts):
    how = ("--input", "mind,intensity", "--iterations", "4", "--every", "2", "--warm-up", "1")
    done = featlift("register", "train", "images", "--pairs", "pairs.csv", "-o", "net", *how)
    assert done.returncode == 0, done.stderr
    by_network = ("--method", "net", "--network", "net")
    done = featlift("register", "run", "images", "--pairs", "pairs.csv", "--split", "test", "-o", "out", *by_network)
    assert done.returncode == 0, done.stderr
    done = featlift("register", "score", "out", "--masks", "labels")
    assert done.returncode == 0, done.stderr
    assert "net of mind+intensity" in done.stdout
    field = sitk.ReadImage(hearts / "out/p4_ed--p4_es/field.nii.gz", sitk.sitkVectorFloat64)
    assert np.isfinite(sitk.GetArrayFromImage(field)).all()

"""Everything behind the store takes one of a native network as it is, from the command line."""

import json

import nibabel as nib
import numpy as np
import pytest

from tests.support.scans import write_nifti

SHAPE = (40, 36, 16)
NETWORK = ("--mode", "native", "--model", "monai:SegResNet", "--weights", "random:0", "--device", "cpu")
NETWORK += ("--model-arg", "init_filters=8", "--model-arg", "blocks_down=(1,1,1)", "--layers", "0,1")


@pytest.fixture
def store(tmp_path, featlift):
    """Four scans with a bright ball, masks of it, in tiles."""
    for number in range(4):
        places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
        ball = (np.linalg.norm((places - (20, 14 + number, 8)) * (1, 1, 2), axis=-1) < 9).astype(np.float32)
        noise = np.random.default_rng(number).normal(scale=0.05, size=SHAPE)
        write_nifti(tmp_path / "scans" / f"p{number}.nii.gz", (ball + noise).astype(np.float32))
        write_nifti(tmp_path / "masks" / f"p{number}.nii.gz", ball)
    split = "".join(f"p{number},{'train' if number < 3 else 'test'}\n" for number in range(4))
    (tmp_path / "split.csv").write_text("id,split\n" + split)
    done = featlift("extract", "scans", *NETWORK, "--tile", "16,32,32")
    assert done.returncode == 0, done.stderr
    return tmp_path / "features.zarr"


def test_heads_are_trained_on_it_and_predict(store, tmp_path, featlift):
    """A bright ball is found by a line through features that see brightness, on the voxels of the masks."""
    head = ("--masks", "masks", "--labels", "split.csv", "--head", "linear", "-o", "head", "--epochs", "40", "--layers")
    done = featlift("segment", "train", "features.zarr", *head, "0,1", "--rate", "0.1", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    done = featlift("segment", "predict", "features.zarr", "--head", "head", "--case", "p3", "-o", "predicted")
    assert done.returncode == 0, done.stderr
    found, wanted = (nib.load(tmp_path / folder / "p3.nii.gz") for folder in ("predicted", "masks"))
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-4)
    found, wanted = found.get_fdata() > 0, wanted.get_fdata() > 0
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.8


def test_its_cases_are_registered(store, tmp_path, featlift):
    """By features alone: the balls are three voxels apart along one axis, and come to lie on each other."""
    (tmp_path / "pairs.csv").write_text("fixed,moving\np0,p3\n")
    options = ("--features", "model", "--layer", "0", "--search-cell", "4", "--reach", "2", "--device", "cpu")
    done = featlift("register", "run", "features.zarr", "--pairs", "pairs.csv", *options, "-o", "out")
    assert done.returncode == 0, done.stderr
    warp = ("--image", "masks/p3.nii.gz", "--like", "masks/p0.nii.gz", "--labels", "-o", "warped.nii.gz")
    done = featlift("register", "apply", "out/p0--p3/field.nii.gz", *warp)
    assert done.returncode == 0, done.stderr
    fixed, moving, warped = (
        nib.load(tmp_path / file).get_fdata() > 0 for file in ("masks/p0.nii.gz", "masks/p3.nii.gz", "warped.nii.gz")
    )

    def dice(other):
        return 2 * (fixed & other).sum() / (fixed.sum() + other.sum())

    assert dice(warped) > dice(moving) + 0.1


def test_it_is_scored_pictured_viewed_and_exported(store, tmp_path, featlift):
    commands = (
        ("featdice", "features.zarr", "--masks", "masks", "-o", "featdice"),
        (
            "probe",
            "features.zarr",
            "--dense",
            "--masks",
            "masks",
            "--labels",
            "split.csv",
            "--cells",
            "200",
            "-o",
            "probe",
        ),
        ("pca", "features.zarr", "--case", "p0", "-o", "pictures"),
        ("view", "features.zarr", "--case", "p0", "-o", "page.html"),
        ("export", "features.zarr", "--to", "nifti", "--case", "p0", "-o", "exported"),
        ("info", "features.zarr"),
        ("verify", "features.zarr"),
    )
    for command in commands:
        done = featlift(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    result = json.loads(next((tmp_path / "featdice").glob("*.json")).read_text())
    assert result["recipe"]["mode"] == "native"
    assert list((tmp_path / "probe").glob("*.json"))
    assert (tmp_path / "page.html").stat().st_size
    assert list((tmp_path / "exported").rglob("*.nii.gz"))
    assert any((tmp_path / "pictures").iterdir())

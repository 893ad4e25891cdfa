"""Everything behind the store takes one of a native network as it is, from the command line."""

import json

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

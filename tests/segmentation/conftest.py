"""A store of oblique, flipped scans whose labels differ in brightness, seen by a network that sees brightness."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from featlift.cli.main import main
from tests.support.scans import patch_mean_options, write_nifti

SHAPE = (24, 22, 12)
SPLITS = {"a": "train", "b": "train", "c": "train", "d": "val", "e": "test", "f": "test"}


def labels_of(name: str) -> np.ndarray:
    """A block of 1 beside a block of 2, elsewhere in each patient."""
    at = 2 + "abcdef".index(name)
    labels = np.zeros(SHAPE, np.uint8)
    labels[at : at + 8, 4:12, 2:10] = 1
    labels[at : at + 8, 12:18, 2:10] = 2
    return labels


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scans, labels, splits.csv and features.zarr, to be read only: enlarged twofold, in cells of 4 x 4."""
    folder = tmp_path_factory.mktemp("cohort")
    for name in SPLITS:
        labels = labels_of(name)
        noise = 20 * np.random.default_rng(ord(name)).normal(size=SHAPE)
        write_nifti(folder / f"scans/{name}.nii.gz", (100 * labels + noise).astype(np.float32))
        write_nifti(folder / f"labels/{name}.nii.gz", labels)
    rows = "".join(f"{name},{split},{'x' if name in 'ab' else name}\n" for name, split in SPLITS.items())
    (folder / "splits.csv").write_text("id,split,patient\n" + rows)
    arguments = ["--mode", "2d", "--layers", "0", "--size", "48", "--intensity", "window:-50,250", "--workers", "0"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_HUB_OFFLINE", "1")
        options = [*patch_mean_options(folder, 4, constant=0.5), *arguments]
        store = str(folder / "features.zarr")
        patched.setattr(sys, "argv", ["featlift", "extract", str(folder / "scans"), "-o", store, *options])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    return folder

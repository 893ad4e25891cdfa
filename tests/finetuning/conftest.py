"""A cohort whose classes differ in brightness, with masks of what is bright."""

import numpy as np
import pytest

from tests.support.scans import write_nifti

AFFINE = np.diag([-1.5, -1.0, 2.0, 1.0])
NETWORK = ("--model", "vits16", "--weights", "random:0", "--layers=-1", "--device", "cpu")
NETWORK += tuple(word for name in ("depth=2", "embed_dim=64", "num_heads=1") for word in ("--model-arg", name))
SPLITS = ["train"] * 8 + ["val"] * 4 + ["test"] * 4


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Sixteen scans of 32 x 32 x 4; of every second one a block shines, which its mask outlines; others' shine less."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = ["id,split,label,other"]
    for number, split in enumerate(SPLITS):
        labels = np.zeros((32, 32, 4), np.uint8)
        at = rng.integers(2, 14, size=2)
        labels[at[0] : at[0] + 16, at[1] : at[1] + 16, 1:4] = 1
        scan = (100 + 100 * (number % 2)) * labels + 5 * rng.normal(size=labels.shape)
        write_nifti(tmp_path / f"scans/c{number:02}.nii.gz", scan.astype(np.float32), AFFINE)
        write_nifti(tmp_path / f"labels/c{number:02}.nii.gz", labels, AFFINE)
        rows.append(f"c{number:02},{split},{'bright' if number % 2 else 'dim'},{number // 2 % 2}")
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n")
    return tmp_path

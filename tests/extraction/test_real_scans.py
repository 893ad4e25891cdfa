"""Real scans of every kind at hand, in one store."""

import csv

import numpy as np

from featlift import open_store

CASES = {  # shape of the scan in (D, H, W), spacing along D
    "lung1_image": ((48, 512, 512), 5.0),
    "brain1_image": ((25, 256, 256), 6.5),
    "breast1_image": ((21, 120, 45), 2.1),
    "t2": ((26, 320, 320), 5.5),
}


def test_a_mixed_cohort_in_one_store(featlift, tmp_path, shared):
    """Lung CT, brain and breast NRRD, the oblique T2 and 24 hippocampus crops."""
    with (shared / "hippocampus" / "split.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["small"] == "1" and row["split"] == "train"]
    crops = [shared / "hippocampus" / "images" / f"{row['id']}.nii.gz" for row in rows]
    assert len(crops) == 24
    inputs = [*(shared / "lesions" / f"{name}.nrrd" for name in list(CASES)[:3]), shared / "oblique_t2" / "t2.nii.gz"]
    done = featlift("extract", *inputs, *crops, "--model", "efficientnet-lite0", "--layers", "stride8", "--mode", "pcg")
    assert done.returncode == 0, done.stderr
    store = open_store(tmp_path / "features.zarr")
    assert len(store) == 28
    for name, (shape, spacing) in CASES.items():
        assert tuple(store[name].attributes["shape"]) == shape
        assert np.isclose(store[name].attributes["spacing"][0], spacing, atol=0.05)
    for case in store.values():
        channels, depth, height, width = case.dense.shape
        assert (channels, depth) == (40, case.scan.shape[0])
        assert (height, width) == tuple(-(-n // 8) for n in case.scan.shape[1:])
        assert 0 <= case.scan[...].min() < 0.1
        assert 0.9 < case.scan[...].max() <= 1
        dense = case.dense[...].astype(np.float32)
        assert dense.std() > 0.05
        assert case.affine is not None
    assert featlift("verify", "features.zarr").returncode == 0

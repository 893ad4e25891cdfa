"""Regions: every voxel of a mask has the features of its cell, whatever grid the mask is on."""

import json

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import trim_mean

from featlift import open_store, read
from featlift.errors import OptionError
from featlift.evaluation.regions import regions_of, trimmed_mean
from featlift.store import rebuild_index
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti, write_scan

FINER = OBLIQUE @ np.diag([-0.5, 0.5, 0.5, 1.0])  # flipped along i
FINER[:3, 3] = (OBLIQUE @ [39, 0, 0, 1])[:3]


def blobs(shape, scale):
    """Labels 3 and 7, of 120 scale³ and 40 scale³ voxels, and a single voxel of 9."""
    mask = np.zeros(shape, np.uint8)
    mask[4 * scale : 14 * scale, 6 * scale : 10 * scale, scale : 4 * scale] = 3
    mask[20 * scale : 30 * scale, 20 * scale : 22 * scale, scale : 3 * scale] = 7
    mask[35, 30, 2] = 9
    return mask


@pytest.fixture
def store(featlift, tmp_path):
    for seed, name in enumerate("ab"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
        write_nifti(tmp_path / "masks" / f"{name}.nii.gz", blobs((40, 36, 6), 1))
    model = patch_mean_options(tmp_path, constant=1)
    done = featlift("extract", "scans", "-o", "store.zarr", *model, "--mode", "2d", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return tmp_path / "store.zarr"


def by_voxel(case, path, label):
    """Features at every voxel of a label, and the places of these voxels in LPS millimetres."""
    image = nib.load(path)
    voxels = np.argwhere(np.asarray(image.dataobj) == label)
    points = (voxels @ image.affine[:3, :3].T + image.affine[:3, 3]) * [-1, -1, 1]
    return case.sample(points, order=0), points


@pytest.mark.parametrize(("shape", "affine", "scale"), [((40, 36, 6), OBLIQUE, 1), ((80, 72, 12), FINER, 2)])
def test_voxel_by_voxel(store, tmp_path, shape, affine, scale):
    path = write_nifti(tmp_path / "mask.nii.gz", blobs(shape, scale), affine)
    case = open_store(store)["a"]
    found = {region.label: region for region in regions_of(case, read(path))}
    assert list(found) == [3, 7, 9]
    for label, region in found.items():
        features, points = by_voxel(case, path, label)
        assert region.voxels == len(features)
        np.testing.assert_allclose(region.mean, features.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(region.deviation, features.std(axis=0), atol=1e-4)
        if label != 9:  # tenths of these are whole voxels
            np.testing.assert_allclose(region.trimmed, trim_mean(features, 0.1), atol=1e-4)
        np.testing.assert_allclose(region.centroid, points.mean(axis=0), atol=1e-3)
        assert region.volume == pytest.approx(len(points) * abs(np.linalg.det(affine[:3, :3])))
        assert np.all(np.array(region.box[0]) < points.min(axis=0))
        assert np.all(np.array(region.box[1]) > points.max(axis=0))
    assert [region.smaller_than_a_cell for region in found.values()] == [False, False, True]
    assert found[9].deviation.max() == 0


def test_a_trimmed_mean_counts_parts():
    values = np.array([[0.0, 1.0, 100.0]], np.float32)
    assert trimmed_mean(values, np.array([0.1, 0.85, 0.05])) == pytest.approx(1.0)  # both ends go
    assert trimmed_mean(values, np.array([0.3, 0.3, 0.4])) == pytest.approx((0.2 * 0 + 0.3 * 1 + 0.3 * 100) / 0.8)


def test_a_row_a_region(featlift, store, tmp_path):
    rebuild_index(store, {"a": {"patient": "p1", "split": "train"}, "b": {"patient": "p2", "split": "test"}})
    write_nifti(tmp_path / "masks" / "b.nii.gz", np.zeros((40, 36, 6), np.uint8))
    done = featlift("regions", "store.zarr", "--masks", "masks")
    assert (done.returncode, "regions.parquet: 3 regions of 1 case, 1 of them smaller than a cell" in done.stdout) == (
        1,
        True,
    )
    assert "b" in done.stderr
    table = pq.read_table(tmp_path / "regions.parquet")
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ["a:3", "a:7", "a:9"]
    assert {(row["case"], row["patient"], row["split"]) for row in rows} == {("a", "p1", "train")}
    assert len(rows[0]["vector"]) == len(rows[0]["deviation"]) == 8
    assert json.loads(table.schema.metadata[b"featlift"])["recipe"]["mode"] == "2d"
    assert [row["name"] for row in rows] == ["3", "7", "9"]
    featlift("regions", "store.zarr", "--masks", "masks", "--label-names", "3=liver,7=spleen")
    names = pq.read_table(tmp_path / "regions.parquet")["name"].to_pylist()
    assert names == ["liver", "spleen", "9"]
    done = featlift("retrieve", "regions.parquet", "--case", "a:3")
    assert done.returncode == 0, done.stderr
    assert "a:7" in done.stdout


def test_bad_input(featlift, store, tmp_path):
    for options, says in (
        (["--masks", "nowhere"], "nowhere"),
        (["--masks", "masks", "--layer", "5"], "layer 5"),
        (["--masks", "masks", "-o", "/proc/regions.parquet"], "/proc"),
    ):
        done = featlift("regions", "store.zarr", *options)
        assert (done.returncode, says in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
    rebuild_index(store, {"a": {"region": "north"}})
    done = featlift("regions", "store.zarr", "--masks", "masks")
    assert (done.returncode, "'region'" in done.stderr) == (2, True), done.stderr


def test_a_mask_without_geometry_lies_as_the_scan(store, tmp_path):
    from featlift.volumes import Volume

    case = open_store(store)["a"]
    labels = np.zeros(case.scan_shape, np.float32)
    labels[1, 4:8, 4:8] = 1
    (region,) = regions_of(case, Volume(labels, None))
    d, h, w = 1, slice(2, 4), slice(2, 4)
    np.testing.assert_allclose(region.mean, np.asarray(case.dense[:, d, h, w], np.float32).mean(axis=(1, 2)), atol=1e-3)
    with pytest.raises(OptionError):
        regions_of(case, Volume(labels, None), layer=4)

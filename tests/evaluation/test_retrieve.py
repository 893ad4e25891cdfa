"""Retrieval: places that look alike in scans that lie elsewhere, through affines that are oblique."""

import csv

import numpy as np
import pytest

from featlift import open_store
from featlift.errors import OptionError, StoreError
from featlift.evaluation import nearest_cases, nearest_places, place_at
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti
from tests.support.stores import clouds, write_store

#: (i, j, k) of the one block of 2 x 2 voxels of its brightness in each scan.
PLACES = {"a": (8, 12, 3), "b": (20, 4, 6), "c": (2, 22, 1)}
TO_LPS = np.diag([-1, -1, 1, 1])


@pytest.fixture
def scans(featlift, tmp_path):
    """Scans of noise in which one place is of a brightness of its own; the last one lies elsewhere."""
    rng = np.random.default_rng(0)
    for name, (i, j, k) in PLACES.items():
        scan = rng.integers(0, 40, (28, 26, 8))
        scan[i : i + 2, j : j + 2, k] = 100
        affine = OBLIQUE.copy()
        affine[:3, 3] += 30 * (name == "c")
        write_nifti(tmp_path / f"scans/{name}.nii.gz", scan.astype(np.int16), affine)
    options = [*patch_mean_options(tmp_path, 2, constant=0.5), "--mode", "2d", "--intensity", "window:0,100"]
    done = featlift("extract", "scans", *options, "--orient", "native")
    assert done.returncode == 0, done.stderr
    return open_store(tmp_path / "features.zarr")


def lps_of(name, place):
    """Of the middle of the block, from its file's affine."""
    affine = OBLIQUE.copy()
    affine[:3, 3] += 30 * (name == "c")
    i, j, k = place
    return (TO_LPS @ affine @ [i + 0.5, j + 0.5, k, 1])[:3]


def test_places_are_found_in_other_scans(scans, featlift, tmp_path):
    z, y, x = np.argwhere(scans["a"].scan[:] > 0.9).min(axis=0)
    done = featlift("retrieve", "features.zarr", "--case", "a", "--voxel", f"{x},{y},{z}", "--csv", "out.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["case", "similarity", "voxel x", "y", "z", "LPS mm x", "y", "z"]
    assert rows[1][0] == "a"
    assert {row[0] for row in rows[2:]} == {"b", "c"}
    for row in rows[1:]:
        np.testing.assert_allclose([float(value) for value in row[5:]], lps_of(row[0], PLACES[row[0]]), atol=0.06)
        x, y, z = (int(value) for value in row[2:5])
        assert scans[row[0]].scan[z, y, x] > 0.9
        assert float(row[1]) > 0.999
    point = ",".join(map(str, lps_of("a", PLACES["a"])))
    assert featlift("retrieve", "features.zarr", "--case", "a", f"--point={point}").stdout == done.stdout
    x, y, z = lps_of("a", PLACES["a"])
    ras = featlift("retrieve", "features.zarr", "--case", "a", f"--point={-x},{-y},{z}", "--ras").stdout.splitlines()
    assert "RAS mm x" in ras[0]
    assert [float(value) for value in ras[1].split()[-3:]] == pytest.approx([-x, -y, z], abs=0.06)
    assert [line.split()[:5] for line in ras[1:]] == [line.split()[:5] for line in done.stdout.splitlines()[1:]]
    top = featlift("retrieve", "features.zarr", "--case", "a", f"--point={point}", "--top", "1").stdout
    assert len(top.splitlines()) == 3


def test_every_corner_is_its_own_place(scans):
    for corner in np.ndindex(2, 2, 2):
        d, h, w = ((size - 1) * bit for size, bit in zip(scans["b"].scan.shape, corner, strict=True))
        place = place_at(scans, "b", voxel=(w, h, d))
        cells = np.array(scans["b"].valid_cells)
        assert place.cell == tuple((cells - 1) * corner)
        assert np.abs(np.subtract(place.voxel, (w, h, d))).max() <= 1
        assert place_at(scans, "b", point=place.point) == place


def test_a_damaged_case_is_named_and_the_others_go_on(scans, featlift, tmp_path):
    (chunk,) = (tmp_path / "features.zarr/volumes/b/dense").rglob("c/0/0/0/0")
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"corrupted")
    done = featlift("retrieve", "features.zarr", "--case", "a", "--voxel", "3,3,3")
    assert done.returncode == 1
    assert "case b: dense is damaged" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["case", "a", "c"]
    with pytest.raises(StoreError, match="damaged"):
        nearest_places(scans, place_at(scans, "b", voxel=(0, 0, 0)))


def test_cases_by_their_embeddings(tmp_path, featlift):
    cases, labels = clouds(12, spread=0.1)
    store = write_store(tmp_path / "a.zarr", cases)
    found = nearest_cases(store, "case004", top=11)
    assert [labels[case_id] for case_id, _ in found] == [0] * 5 + [1] * 6
    means = {case_id: tokens.mean(axis=0) for case_id, tokens in cases.items()}
    own = means["case004"]
    for case_id, similarity in found:
        cosine = means[case_id] @ own / np.linalg.norm(means[case_id]) / np.linalg.norm(own)
        assert similarity == pytest.approx(cosine, abs=1e-5)
    assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)
    done = featlift("retrieve", "a.zarr", "--case", "case004", "--top", "2", "--input", "cls+patch-mean")
    assert len(done.stdout.splitlines()) == 3


WRONG_CALLS = {
    "no such case": (["--case", "q"], "no case 'q'"),
    "outside": (["--case", "case000", "--voxel", "9,0,0"], "9,0,0 is outside of the stored scan"),
    "two numbers": (["--case", "case000", "--voxel", "9,0"], "as a voxel x,y,z or as a point"),
    "both": (["--case", "case000", "--voxel", "1,0,0", "--point", "1,2,3"], "and not both"),
    "no geometry": (["--case", "case000", "--point", "1,2,3"], "has no geometry"),
    "no such layer": (["--case", "case000", "--voxel", "1,0,0", "--layer", "4"], "the store holds 0"),
    "a layer of cases": (["--case", "case000", "--layer", "0"], "--layer is of places"),
    "an input of places": (["--case", "case000", "--voxel", "1,0,0", "--input", "cls"], "--input is of whole cases"),
    "input": (["--case", "case000", "--input", "mean"], "choose one of cls"),
}


def test_wrong_calls(featlift, tmp_path):
    write_store(tmp_path / "a.zarr", clouds(3)[0])
    for kind, (wrong, says) in WRONG_CALLS.items():
        done = featlift("retrieve", "a.zarr", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), kind
        assert says in done.stderr, kind
    one = write_store(tmp_path / "one.zarr", clouds(1)[0])
    with pytest.raises(OptionError, match="no case but case000"):
        nearest_cases(one, "case000")

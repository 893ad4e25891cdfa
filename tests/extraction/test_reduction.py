"""Fewer channels: scikit-learn's components, one basis for all jobs, the same projection in every process."""

import hashlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from featlift import open_store
from featlift.errors import OptionError, StoreError
from featlift.extraction import Reduction
from featlift.store.basis import Basis
from featlift.store.principal import Covariance
from featlift.store.reduction import random_projection, reduce
from tests.support.scans import write_scan

MODEL = ["--model", "vits16", "--weights", "random:0", "--precision", "fp32", "--layers", "0,-1"]
MODEL += [
    option for each in ("embed_dim=64", "depth=2", "num_heads=1", "init_values=0.5") for option in ("--model-arg", each)
]


@pytest.fixture
def cohort(tmp_path):
    for seed, name in enumerate("abc"):
        write_scan(tmp_path / f"scans/{name}.nii.gz", seed, (80, 72, 6 + seed))
    return ["extract", "scans", *MODEL]


def correlated(count, channels, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, channels)) @ rng.normal(size=(channels, channels)) + 50).astype(np.float32)


def test_components_are_those_of_scikit_learn():
    vectors = correlated(3000, 20)
    covariance = Covariance(20)
    for part in np.split(vectors, [7, 8, 8, 2000]):
        covariance.add(part)
    projection = covariance.principal(6)
    theirs = PCA(6, svd_solver="full").fit(vectors.astype(np.float64))
    np.testing.assert_allclose(projection.components, theirs.components_, atol=1e-5)
    np.testing.assert_allclose(projection.mean, theirs.mean_, rtol=1e-6)
    assert projection.variance_kept == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-6)
    dense = torch.from_numpy(vectors[:24].T.reshape(20, 2, 3, 4).copy())
    ours = reduce(dense, projection).flatten(1).T
    np.testing.assert_allclose(ours, theirs.transform(vectors[:24]), rtol=1e-4, atol=1e-3)


def test_of_few_channels_all_are_kept():
    vectors = correlated(100, 4)
    covariance = Covariance(4)
    covariance.add(vectors)
    projection = covariance.principal(24)
    assert projection.components.shape == (4, 4)
    assert projection.variance_kept == pytest.approx(1)


def test_too_few_cells_to_fit_on():
    covariance = Covariance(20)
    covariance.add(correlated(5, 20))
    with pytest.raises(OptionError, match="only 5 feature cells"):
        covariance.principal(6)


def test_a_random_projection_is_one_and_the_same_in_every_process():
    projection = random_projection(384, 64)
    gram = projection.components @ projection.components.T
    np.testing.assert_allclose(gram, 6 * np.eye(64), atol=1e-5)  # orthogonal, of length sqrt(C / K)
    vectors = np.random.default_rng(0).normal(size=(384, 2000))
    ratio = np.linalg.norm(projection.components @ vectors, axis=0) / np.linalg.norm(vectors, axis=0)
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    code = (
        "import hashlib, numpy as np\n"
        "from featlift.store.reduction import random_projection\n"
        "components = random_projection(384, 64).components\n"
        "print(hashlib.sha256(np.round(components, 5).tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(np.round(projection.components, 5).tobytes()).hexdigest()


def valid(layer):
    _, h, w = layer.valid_cells
    return np.asarray(layer.dense[:, :, :h, :w], np.float64).reshape(layer.dense.shape[0], -1).T


def test_a_store_holds_what_scikit_learn_makes_of_a_full_one(featlift, cohort, tmp_path):
    full, reduced = "full.zarr", "reduced.zarr"
    assert featlift(*cohort, "-o", full, "--save-dtype", "float32").returncode == 0
    done = featlift(*cohort, "-o", reduced, "--save-dtype", "float32", "--reduce", "pca:5")
    assert done.returncode == 0, done.stderr
    full, reduced = open_store(tmp_path / full), open_store(tmp_path / reduced)
    basis = tmp_path / "reduced.zarr/basis.safetensors"
    assert reduced.recipe["reduce"] == "pca:5"
    assert reduced.recipe["basis_sha256"] == hashlib.sha256(basis.read_bytes()).hexdigest()
    assert Basis.read(basis).about["scans"] == 3
    for index in (0, 1):
        theirs = PCA(5, svd_solver="full").fit(np.concatenate([valid(case.layers[index]) for case in full.values()]))
        for name, case in reduced.items():
            layer = case.layers[index]
            want = theirs.transform(valid(full[name].layers[index]))
            np.testing.assert_allclose(valid(layer), want, atol=1e-4 * np.abs(want).max())
            assert layer.grid["reduced"] == {
                "by": "pca:5",
                "from_channels": 64,
                "variance_kept": pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-5),
            }
            np.testing.assert_array_equal(layer.slice_mean[...], full[name].layers[index].slice_mean[...])
            np.testing.assert_array_equal(layer.tokens[...], full[name].layers[index].tokens[...])
    np.testing.assert_array_equal(reduced["a"].embedding, full["a"].embedding)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_uncentred_features_have_the_cosines_of_the_reconstruction(featlift, cohort, tmp_path, dtype):
    assert featlift(*cohort, "--save-dtype", dtype, "--reduce", "pca:5").returncode == 0
    store = open_store(tmp_path / "features.zarr")
    for index in (0, 1):
        projection = store.basis.projections[index]
        layer = store["a"].layers[index]
        uncentred = np.asarray(layer.uncentred)
        assert uncentred.shape == layer.uncentred.shape == (6, *layer.dense.shape[1:])
        assert np.ptp(uncentred[5]) == 0
        reduced = np.asarray(layer.dense[:], np.float64).reshape(5, -1)
        whole = projection.mean[:, None] + projection.components.T.astype(np.float64) @ reduced
        own = uncentred.reshape(6, -1).astype(np.float64)
        scale = np.abs(whole.T @ whole).max()
        np.testing.assert_allclose(own.T @ own, whole.T @ whole, atol=1e-5 * scale)
        np.testing.assert_allclose(cosines(own), cosines(whole), atol=1e-5)
        assert np.abs(cosines(reduced) - cosines(whole)).max() > 0.1  # centring is what makes the difference
        for part in ((slice(None), 1), (5, 1, 2), (slice(2, 6), slice(0, 2), ..., -1), 0, ..., (-1, ...)):
            np.testing.assert_array_equal(layer.uncentred[part], uncentred[part])


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=0)
    return unit.T @ unit


def test_only_principal_components_can_be_uncentred(featlift, cohort, tmp_path):
    for options in ([], ["--reduce", "random:5"]):
        assert featlift(*cohort, "-o", "other.zarr", "--overwrite", *options).returncode == 0
        case = open_store(tmp_path / "other.zarr")["a"]
        with pytest.raises(StoreError, match="not reduced by principal components"):
            case.uncentred  # noqa: B018
        done = featlift("featdice", "other.zarr", "--masks", "scans", "--uncentred")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "not reduced by principal components" in done.stderr
    assert featlift(*cohort, "-o", "reduced.zarr", "--reduce", "pca:5").returncode == 0
    (tmp_path / "reduced.zarr/basis.safetensors").write_bytes(b"")
    with pytest.raises(StoreError, match="not what was written; put it back"):
        open_store(tmp_path / "reduced.zarr")["a"].uncentred  # noqa: B018


def test_later_jobs_take_the_basis_that_is_there(featlift, cohort, tmp_path):
    assert featlift(*cohort, "--reduce", "pca:5", "--limit", 1).returncode == 0
    basis = tmp_path / "features.zarr/basis.safetensors"
    before = basis.read_bytes()
    done = featlift(*cohort, "--reduce", "pca:5", "--overwrite")
    assert (done.returncode, "2 extracted, 1 complete before" in done.stdout) == (0, True)
    assert "fitting" not in done.stderr + done.stdout
    assert basis.read_bytes() == before
    other = featlift(*cohort, "-o", "other.zarr", "--basis", basis)
    assert other.returncode == 0, other.stderr
    first, second = (open_store(tmp_path / name) for name in ("features.zarr", "other.zarr"))
    assert first.recipe == second.recipe
    for name, case in first.items():
        np.testing.assert_array_equal(case.dense[...], second[name].dense[...])
    refused = featlift(*cohort, "--reduce", "pca:4")
    assert (refused.returncode, 'reduce (store "pca:5", asked "pca:4")' in refused.stderr) == (2, True)


def test_two_jobs_that_start_at_once_share_one_basis(featlift, featlift_process, cohort, tmp_path):
    command = [*cohort, "--reduce", "pca:5", "-o"]
    assert featlift(*command, "alone.zarr").returncode == 0
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(featlift_process(*command, "shared.zarr"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.returncode for done in results] == [0, 0], [done.stderr for done in results]
    shared = open_store(tmp_path / "shared.zarr")
    basis = tmp_path / "shared.zarr/basis.safetensors"
    assert shared.recipe["basis_sha256"] == hashlib.sha256(basis.read_bytes()).hexdigest()
    for name, case in open_store(tmp_path / "alone.zarr").items():
        np.testing.assert_allclose(shared[name].dense[...], case.dense[...], atol=2e-3)
    assert featlift("verify", "shared.zarr").returncode == 0


def test_a_damaged_basis_is_found_and_not_used(featlift, cohort, tmp_path):
    assert featlift(*cohort, "--reduce", "pca:5", "--limit", 1).returncode == 0
    basis = tmp_path / "features.zarr/basis.safetensors"
    content = bytearray(basis.read_bytes())
    content[-1] ^= 1
    basis.write_bytes(content)
    found = featlift("verify", "features.zarr")
    assert (found.returncode, "damaged  basis.safetensors: not what was written" in found.stdout) == (1, True)
    again = featlift(*cohort, "--reduce", "pca:5")
    assert again.returncode == 2
    assert "not what was written; put it back" in again.stderr.splitlines()[-1]


def test_a_scan_that_cannot_be_lifted_is_left_out_of_the_fit(featlift, cohort, tmp_path):
    (tmp_path / "scans/b.nii.gz").write_bytes(b"not an image")
    done = featlift(*cohort, "--reduce", "pca:5")
    assert (done.returncode, "2 extracted, 1 failed" in done.stdout) == (1, True)
    assert Basis.read(tmp_path / "features.zarr/basis.safetensors").about["scans"] == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--reduce", "pca"], "give pca:K or random:K"),
        (["--reduce", "random:0"], "give pca:K or random:K"),
        (["--reduce", "random:65"], "layer 0 has only 64 channels"),
        (["--reduce", "random:8", "--save", "scan"], "of dense features, which --save leaves out"),
        (["--basis", "nowhere.safetensors"], "no such file"),
        (["--basis", "scans/a.nii.gz"], "is no basis of featlift's"),
    ],
)
def test_what_makes_no_sense(featlift, cohort, tmp_path, options, says):
    done = featlift(*cohort, *options)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not (tmp_path / "features.zarr").exists()


def test_a_basis_of_other_weights_is_refused(featlift, cohort, tmp_path):
    assert featlift(*cohort, "--reduce", "pca:5", "--limit", 1).returncode == 0
    other = ["random:1" if each == "random:0" else each for each in cohort]
    done = featlift(*other, "-o", "other.zarr", "--basis", "features.zarr/basis.safetensors")
    assert (done.returncode, "with other weights" in done.stderr) == (2, True)
    with pytest.raises(OptionError, match=r"the basis is of pca:5"):
        Reduction.of("pca:6", Basis.read(tmp_path / "features.zarr/basis.safetensors"))

"""k-NN against scikit-learn's and against DINO's votes written out, from features to files."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from featlift.errors import OptionError, StoreError
from featlift.evaluation import (
    embeddings_of,
    input_of,
    knn,
    nearest_by_cosine,
    predictions_of,
    read_labels,
    read_result,
    vote,
)
from tests.support.scans import patch_mean_options
from tests.support.stores import clouds, splits_of, write_labels, write_store
from tests.volumes.test_medmnist import medmnist

T = 0.07


def votes_of(distances):
    """DINO's weights of neighbours, from the cosine distances that scikit-learn has."""
    return np.exp((1 - distances) / T)


@pytest.mark.parametrize("classes", [2, 4])
def test_votes_are_scikit_learns(classes):
    rng = np.random.default_rng(0)
    known, queries = rng.normal(size=(2, 150, 12)).astype(np.float32)
    labels = rng.permutation(np.arange(150) % classes)
    for k in (1, 10, 150):
        similarity, rows = nearest_by_cosine(queries, known, k)
        theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=votes_of).fit(known, labels)
        np.testing.assert_allclose(vote(similarity, labels[rows], classes, T), theirs.predict_proba(queries), atol=1e-4)


def test_chunks_do_not_matter_and_nobody_is_his_own_neighbour(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    whole = nearest_by_cosine(vectors, vectors, 7, np.arange(len(vectors)))
    monkeypatch.setattr("featlift.evaluation.classification.neighbours._AT_ONCE", 3 * 40)
    for got, want in zip(nearest_by_cosine(vectors, vectors, 7, np.arange(len(vectors))), whole, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    np.testing.assert_array_equal(whole[1], np.argsort(-cosine, axis=1)[:, :7])
    np.testing.assert_allclose(whole[0], -np.sort(-cosine, axis=1)[:, :7], atol=1e-6)


def test_near_zero_temperature_the_nearest_decides_and_nothing_overflows():
    similarity = np.array([[1.0, 0.99, 0.98]], dtype=np.float32)
    np.testing.assert_allclose(vote(similarity, np.array([[1, 0, 0]]), 2, 1e-4), [[0, 1]], atol=1e-12)
    np.testing.assert_allclose(vote(similarity, np.array([[1, 0, 0]]), 2, 1e4), [[2 / 3, 1 / 3]], atol=1e-6)


def test_leave_one_out_is_a_loop_over_the_cases(tmp_path):
    cases, labels = clouds(30, spread=5.0)
    store = write_store(tmp_path / "a.zarr", cases)
    (result,) = knn(store, read_labels(store, write_labels(tmp_path / "l.csv", labels)), ks=(4,), resamples=20)
    assert result.protocol["name"] == "leave one out"
    truth, probabilities = predictions_of(result)
    vectors = np.stack([tokens.mean(axis=0) for tokens in cases.values()])
    for row in range(30):
        others = np.arange(30) != row
        theirs = KNeighborsClassifier(4, metric="cosine", algorithm="brute", weights=votes_of)
        theirs.fit(vectors[others], truth[others])
        np.testing.assert_allclose(probabilities[0, row], theirs.predict_proba(vectors[[row]])[0], atol=1e-3)


def test_findings_with_gaps_and_ks_beyond_the_cases(tmp_path, featlift):
    cases, labels = clouds(48, spread=5.0)
    other = {case_id: number % 3 % 2 for number, case_id in enumerate(cases)}
    write_store(tmp_path / "a.zarr", cases)
    lines = ["id,split,one,other"]
    for number, (case_id, split) in enumerate(splits_of(cases).items()):
        lines.append(f"{case_id},{split},{labels[case_id]},{'' if number % 8 == 5 else other[case_id]}")
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    done = featlift("knn", "a.zarr", "--labels", "l.csv", "-k", "5,20,100", "--resamples", "50")
    assert done.returncode == 0, done.stderr
    assert "6 of 48 cases take no part in other: case005, case013" in done.stderr
    assert "24 cases to learn from, so no k of [100]" in done.stderr
    files = sorted(path.name for path in (tmp_path / "results").glob("*.json"))
    assert files == [f"a-knn-{k}-cls-{task}.json" for k in (20, 5) for task in ("mean-of-2", "one", "other")]
    found = read_result(tmp_path / "results/a-knn-5-cls-other.json")
    ids = [case["id"] for case in found.cases]
    assert not set(ids) & set(found.left_out)
    assert found.left_out == [case_id for number, case_id in enumerate(cases) if number % 8 == 5]
    truth, probabilities = predictions_of(found)
    assert found.measures["auc"].mean == pytest.approx(roc_auc_score(truth, probabilities[0, :, 1]))
    few = write_store(tmp_path / "few.zarr", dict(list(cases.items())[:4]))
    (result,) = knn(few, read_labels(few, write_labels(tmp_path / "few.csv", dict(list(labels.items())[:4]))))
    assert (result.protocol["k"], result.details["left_out_k"]) == (3, [10, 20, 100, 200])


@pytest.mark.parametrize("current", [True, False])
def test_inputs(tmp_path, current):
    """From the index, or from the volumes where it is not up to date."""
    cases, _ = clouds(5)
    store = write_store(tmp_path / "a.zarr", cases)
    if not current:
        (tmp_path / "a.zarr/index.parquet").write_bytes(b"")
    ids = ["case003", "case001"]
    mean = np.stack([cases[case_id].mean(axis=0) for case_id in ids])
    for given, want in {"cls": mean, "patch-mean": 2 * mean, "cls+patch-mean": np.hstack([mean, 2 * mean])}.items():
        np.testing.assert_allclose(embeddings_of(store, ids, input_of(store, given)), want, rtol=1e-5)
    assert input_of(store) == "cls"
    with pytest.raises(OptionError, match="choose cls, patch-mean"):
        input_of(store, "tokens")
    plain = write_store(tmp_path / "b.zarr", {case_id: (None, tokens) for case_id, tokens in cases.items()})
    assert input_of(plain) == "patch-mean"
    with pytest.raises(OptionError, match="made-up has no class token; choose patch-mean"):
        input_of(plain, "cls+patch-mean")
    if not current:
        (tmp_path / "a.zarr/volumes/case001/embedding/c/0").write_bytes(b"no")
        with pytest.raises(StoreError, match="case001: embedding/c/0 has 2 bytes"):
            embeddings_of(store, ids, "cls")


def test_medmnist_brings_its_labels(featlift, tmp_path):
    """From the file that people download to a table: volumes of one class are bright above, of the other below."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in {"train": 12, "val": 4, "test": 8}.items():
        labels = np.arange(count) % 2
        images = rng.integers(0, 60, (count, 8, 8, 8))
        images[labels == 1] += 120
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels[:, None].astype(np.uint8)}
    medmnist(tmp_path / "tiny.npz", **arrays)
    options = [*patch_mean_options(tmp_path, 4, constant=0.5), "--mode", "2d", "--intensity", "window:0,255"]
    done = featlift("extract", "tiny.npz", *options)
    assert done.returncode == 0, done.stderr
    done = featlift("knn", "features.zarr", "-k", "5", "--input", "patch-mean")
    assert done.returncode == 0, done.stderr
    assert "train to test, patch-mean" in done.stdout
    found = read_result(tmp_path / "results/features-knn-5-patch-mean-label.json")
    assert (len(found.cases), found.measures["auc"].mean, found.measures["accuracy"].mean) == (8, 1, 1)
    assert len(found.left_out) == 0


WRONG_CALLS = {
    "k": (["-k", "0"], "both have to be above 0"),
    "k that is none": (["-k", "ten"], "give whole numbers"),
    "temperature": (["--temperature", "0"], "both have to be above 0"),
    "input": (["--input", "mean"], "choose one of cls, patch-mean"),
    "no labels": (["--labels", "none.csv"], "no such file"),
    "no such column": (["--label", "age"], "no column age"),
}


def test_wrong_calls(featlift, tmp_path):
    cases, labels = clouds(8)
    write_store(tmp_path / "a.zarr", cases)
    done = featlift("knn", "a.zarr")
    assert (done.returncode, "no labels; give a CSV" in done.stderr) == (2, True)
    write_labels(tmp_path / "l.csv", labels)
    for kind, (wrong, says) in WRONG_CALLS.items():
        done = featlift("knn", "a.zarr", "--labels", "l.csv", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), kind
        assert says in done.stderr, kind
    assert not (tmp_path / "results").exists()

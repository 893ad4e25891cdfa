"""Scans inside of scikit-learn: clones, pipelines, a search over folds, embeddings that a store keeps."""

import nibabel as nib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from featlift import Preparation, extract, open_store
from featlift.errors import InputError, OptionError, StoreError, VolumeError
from featlift.store.claims import Claims
from featlift.transforms import LiftedFeatures
from tests.support.scans import OBLIQUE
from tests.support.tiny import TINY

OPTIONS = {"model_args": TINY, "intensity": "window:0,100", "size": 32, "workers": 0}


@pytest.fixture
def scans(tmp_path):
    """Paths of twelve scans, every second one of which is bright, in folders where all have the same name."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(12):
        path = tmp_path / f"patient{number}" / "scan.nii.gz"
        path.parent.mkdir()
        array = rng.normal(30 + 30 * (number % 2), 5, (20, 18, 3)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, OBLIQUE), path)
        paths.append(path)
    return paths


@pytest.fixture
def lifted():
    return LiftedFeatures("vits16", "random:0", mode="2d", options=OPTIONS)


def test_parameters_are_scikit_learns(lifted):
    assert lifted.get_params()["options"] == OPTIONS
    again = clone(lifted.set_params(mode="pcg"))
    assert again is not lifted
    assert again.get_params() == lifted.get_params()
    with pytest.raises(OptionError, match="mode"):
        lifted.set_params(mode="4d").fit([])
    with pytest.raises(OptionError, match="intensty"):
        LiftedFeatures(options={"intensty": "minmax"}).fit([])


def test_embeddings_are_those_of_extract_in_the_order_of_the_paths(lifted, scans, monkeypatch):
    for name, value in {"ID": "1", "MIN": "1", "MAX": "4", "COUNT": "4", "STEP": "1"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.chdir(scans[5].parent)
    chosen = [scans[5], scans[0], scans[5], "scan.nii.gz"]
    vectors = lifted.fit_transform(chosen)
    assert vectors.dtype == np.float32
    loading = {"loading": TINY, "mode": "2d", "weights": "random:0"}
    preparation = Preparation(intensity="window:0,100", size=32)
    for path, vector in zip(chosen, vectors, strict=True):
        np.testing.assert_allclose(vector, extract(path, "vits16", preparation, **loading).embedding, atol=1e-5)


def test_a_search_over_folds_in_a_pipeline_lifts_every_scan_once(lifted, scans, tmp_path):
    store = tmp_path / "features.zarr"
    pipeline = make_pipeline(lifted.set_params(store=store), LogisticRegression(max_iter=200))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.01, 1.0]}, cv=3)
    labels = np.arange(12) % 2
    search.fit(scans, labels)
    assert search.best_score_ == 1
    assert search.predict(np.array(scans, dtype=object)[:4]).tolist() == [0, 1, 0, 1]
    made = {path: path.stat().st_mtime_ns for path in store.glob("volumes/*/zarr.json")}
    assert len(made) == len(open_store(store)) == 12
    assert cross_val_score(search.best_estimator_, scans, labels, cv=2).tolist() == [1, 1]
    assert {path: path.stat().st_mtime_ns for path in store.glob("volumes/*/zarr.json")} == made
    with pytest.raises(StoreError, match="mode"):  # another recipe does not enter
        clone(pipeline).set_params(liftedfeatures__mode="pcm").fit(scans, labels)


def test_a_scan_that_another_process_makes_is_not_made_twice(lifted, scans, tmp_path):
    lifted.set_params(store=tmp_path / "all.zarr").transform(scans[:3])
    lifted.set_params(store=tmp_path / "some.zarr").transform(scans[:2])
    (third,) = set(open_store(tmp_path / "all.zarr")) - set(open_store(tmp_path / "some.zarr"))
    with Claims(tmp_path / "some.zarr") as claims:
        assert claims.take(third)
        with pytest.raises(StoreError, match="another process makes 1 embedding just now"):
            lifted.transform(scans[:3])
    assert len(lifted.transform(scans[:3])) == 3


def test_what_cannot_be_read_is_one_line(lifted, scans, tmp_path):
    with pytest.raises((InputError, VolumeError), match=r"nothing\.nii\.gz"):
        lifted.transform([scans[0], tmp_path / "nothing.nii.gz"])
    flat = tmp_path / "flat.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((20, 18, 3), np.float32), OBLIQUE), flat)
    with pytest.raises(VolumeError, match=r"1 scan failed, flat-\w+ first: "):
        lifted.transform([scans[0], flat])

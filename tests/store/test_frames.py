"""A store in Python: fewer cases of it, its index as a data frame, its embeddings as scikit-learn takes them."""

import numpy as np
import pytest

from featlift import open_store
from featlift.errors import OptionError, StoreError
from featlift.store import rebuild_index
from featlift.store.vectors import VectorTable
from tests.support.scans import write_scan
from tests.support.tiny import TINY

TINY_OPTIONS = ["--model", "vits16", "--weights", "random:0"]
TINY_OPTIONS += [option for key, value in TINY.items() for option in ("--model-arg", f"{key}={value}")]
LABELS = {"a": ("train", 0, 3.5), "b": ("test", 1, None), "c": ("train", 1, 4.5), "d": ("test", None, 5.5)}


@pytest.fixture
def path(featlift, tmp_path):
    for seed, name in enumerate(LABELS):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed, (40, 36, 4))
    done = featlift("extract", "scans", "-o", "features.zarr", *TINY_OPTIONS, "--save", "embedding")
    assert done.returncode == 0, done.stderr
    rows = {name: {"split": split, "ill": ill, "dose": dose} for name, (split, ill, dose) in LABELS.items()}
    rebuild_index(tmp_path / "features.zarr", rows)
    return tmp_path / "features.zarr"


def test_fewer_cases(path):
    store = open_store(path)
    assert list(store[:2]) == list(store[["a", "b"]]) == list(store[[True, True, False, False]]) == ["a", "b"]
    assert list(store[np.array([False, True, False, True])]) == list(store.where(split="test")) == ["b", "d"]
    assert list(store.where(split=["train", "test"], ill=1)) == ["b", "c"]
    assert list(store[1:].where(split="train")) == ["c"]
    assert len(store) == 4
    assert store[:2]["a"].id == "a"
    with pytest.raises(KeyError, match="no case 'c'"):
        store[:2]["c"]
    for wrong in ([True], [0, 1, 2, 3]):
        with pytest.raises(OptionError, match="a boolean for each"):
            store[wrong]
    with pytest.raises(KeyError, match="'nobody'"):
        store[["a", "nobody"]]


def test_a_data_frame(path):
    store = open_store(path)
    frame = store.to_pandas()
    assert list(frame.index) == ["a", "b", "c", "d"]
    assert {"source", "modality", "depth", "split", "ill", "dose"} <= set(frame.columns)
    assert list(store[frame["dose"] > 4]) == ["c", "d"]  # a column of it chooses cases
    vectors = store[1:].to_pandas(embeddings=True).filter(like="embedding_")
    assert list(vectors.index) == ["b", "c", "d"]
    np.testing.assert_array_equal(vectors.to_numpy()[1], store["c"].embedding)


def test_embeddings_with_labels(path):
    store = open_store(path)
    vectors, labels, ids = store.embeddings("ill")
    assert (ids, list(labels)) == (["a", "b", "c"], [0, 1, 1])  # d has none
    np.testing.assert_array_equal(vectors, [store[name].embedding for name in ids])
    assert store.embeddings(split="test").labels is None
    assert store.embeddings("ill", split="train").ids == ["a", "c"]
    with pytest.raises(OptionError, match="no column 'dead' in the index"):
        store.embeddings("dead")
    with pytest.raises(OptionError, match="no column 'embedding'"):
        store.where(embedding=1)


def test_a_store_without_embeddings(featlift, path, tmp_path):
    done = featlift("extract", "scans", "-o", "dense.zarr", *TINY_OPTIONS, "--save", "dense")
    assert done.returncode == 0, done.stderr
    with pytest.raises(StoreError, match="embedding"):
        open_store(tmp_path / "dense.zarr").embeddings()


def test_vectors_of_other_programs(tmp_path):
    (tmp_path / "vectors.csv").write_text("id,x,y,label,split\na,1,2,0,train\nb,3,4,1,test\nc,5,6,1,test\n")
    store = VectorTable(tmp_path / "vectors.csv")
    vectors, labels, ids = store[:2].embeddings("label")
    assert (vectors.tolist(), list(map(str, labels)), ids) == ([[1, 2], [3, 4]], ["0", "1"], ["a", "b"])
    assert store.where(split="test").to_pandas(embeddings=True)["embedding_1"].to_dict() == {"b": 4, "c": 6}

"""Embeddings and labels as the table that data frames read."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from featlift import open_store
from tests.support.stores import clouds, write_store


@pytest.fixture
def store(tmp_path):
    cases, labels = clouds(count=7)
    return write_store(tmp_path / "made.zarr", cases, {i: {"label": v, "site": "A"} for i, v in labels.items()})


def test_a_row_a_case_with_labels_and_embedding(featlift, tmp_path, store):
    done = featlift("export", "made.zarr", "--to", "parquet")
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(tmp_path / "made-parquet/embeddings.parquet").set_index("id")
    assert list(frame.index) == list(store)
    for case_id, case in store.items():
        np.testing.assert_array_equal(frame.loc[case_id, "embedding"], case.embedding)
    assert frame["label"].tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert set(frame["site"]) == {"A"}
    field = pq.read_schema(tmp_path / "made-parquet/embeddings.parquet").field("embedding")
    assert field.type.list_size == len(store["case000"].embedding)
    assert json.loads(field.metadata[b"parts"]) == {"cls-mean": [0, 6], "patch-mean": [6, 12]}


def test_volumes_are_read_where_the_index_is_out_of_date(featlift, tmp_path, store):
    (tmp_path / "made.zarr/volumes/case003/embedding/c/0").write_bytes(b"damaged")
    (tmp_path / "made.zarr/volumes/case003/zarr.json").touch()  # younger than the index
    done = featlift("export", "made.zarr", "--to", "parquet", "--case", "case001", "--case", "case003", "-o", "out")
    assert done.returncode == 1
    assert "case003  damaged" in done.stderr
    frame = pd.read_parquet(tmp_path / "out/embeddings.parquet")
    assert frame["id"].tolist() == ["case001"]
    np.testing.assert_array_equal(frame["embedding"][0], open_store(store.path)["case001"].embedding)
    assert frame["label"].tolist() == [1]

"""Result files: what is written comes back, and from it every number."""

import csv
import json

import numpy as np
import pytest

from featlift.errors import InputError, StoreError
from featlift.evaluation import (
    classification_intervals,
    classification_measures,
    knn,
    predictions_of,
    read_labels,
    read_result,
    read_results,
    table,
    write_result,
)
from tests.support.stores import clouds, splits_of, write_labels, write_store


@pytest.fixture
def results(tmp_path):
    """k-NN of three classes in clouds that overlap."""
    cases, labels = clouds(72, classes=3, spread=4.0)
    store = write_store(tmp_path / "made/up.zarr", cases)
    tasks = read_labels(store, write_labels(tmp_path / "l.csv", labels, splits_of(labels, 3)))
    return list(knn(store, tasks, ks=(5, 10), seed=3))


def test_what_is_written_comes_back(results, tmp_path):
    paths = [write_result(result, tmp_path / "out") for result in results]
    assert [path.name for path in paths] == ["up-knn-5-cls-label.json", "up-knn-10-cls-label.json"]
    assert [read_result(path) for path in paths] == results
    assert table(read_results([tmp_path / "out"])) == table([results[1], results[0]])
    assert str(tmp_path) not in paths[0].read_text()
    document = json.loads(paths[0].read_text())
    assert list(document)[:4] == ["result", "format", "featlift", "name"]
    assert len(document["recipe_sha256"]) == 64


def test_every_number_can_be_made_again_from_the_file(results, tmp_path):
    result = read_result(write_result(results[0], tmp_path))
    labels, probabilities = predictions_of(result)
    assert probabilities.shape == (1, 24, 3)
    assert {case["split"] for case in result.cases} == {"test"}
    expected = classification_measures(labels, probabilities[0])
    assert {name: measure.mean for name, measure in result.measures.items()} == expected
    intervals = classification_intervals(labels, probabilities, **result.bootstrap)
    assert {name: (measure.low, measure.high) for name, measure in result.measures.items()} == intervals
    assert 0.4 < expected["auc"] < 1
    with (tmp_path / f"{result.name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [case["id"] for case in result.cases]
    np.testing.assert_array_equal([float(row["probability_2"]) for row in rows], probabilities[0, :, 2])


def test_what_is_no_result(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_result(tmp_path / "none.json")
    for text, says in {
        "{": "not a readable JSON",
        "[]": "not a result",
        '{"result": "knn", "format": 2}': "reads up to 1",
        '{"result": "knn", "format": 1, "measures": {"auc": {"mean": 1}}}': "part missing",
        '{"result": "knn", "format": 1, "measures": {}, "cases": []}': "part missing",
    }.items():
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(StoreError, match=says):
            read_result(tmp_path / "a.json")

"""Several cases of one patient: never on both sides of a split, no neighbours of each other, drawn together."""

import numpy as np
import pytest

from featlift.errors import OptionError
from featlift.evaluation import knn, read_labels, read_result, write_result
from featlift.metrics.bootstrap import groups_of
from featlift.metrics.classification_bootstrap import classification_intervals
from featlift.results.differences import Draws
from featlift.store.vectors import VectorTable

PATIENTS = 24


@pytest.fixture
def regions(tmp_path):
    """Two regions of each patient, nearly the same, of a class that the vectors say nothing of."""
    rng = np.random.default_rng(0)
    lines = ["id,a,b,c"]
    labels = ["id,label,patient"]
    for patient in range(PATIENTS):
        vector = rng.normal(size=3)
        for part in "xy":
            lines.append(f"p{patient}{part}," + ",".join(f"{value:.5f}" for value in vector + rng.normal(0, 1e-3, 3)))
            labels.append(f"p{patient}{part},{patient % 2},p{patient}")
    (tmp_path / "vectors.csv").write_text("\n".join(lines))
    (tmp_path / "labels.csv").write_text("\n".join(labels))
    (tmp_path / "alone.csv").write_text("\n".join(line.rpartition(",")[0] for line in labels))
    return tmp_path


def nearest(folder, labels):
    store = VectorTable(folder / "vectors.csv")
    (result,) = knn(store, read_labels(store, folder / labels), ks=(1,), resamples=200)
    return result


def test_a_patient_has_no_neighbour_of_its_own(regions):
    leaking, apart = nearest(regions, "alone.csv"), nearest(regions, "labels.csv")
    assert leaking.measures["accuracy"].mean == 1  # each finds its twin
    assert apart.measures["accuracy"].mean < 0.8
    assert (leaking.protocol["name"], apart.protocol["name"]) == ("leave one out", "leave one patient out")
    again = read_result(write_result(apart, regions))
    assert {case["patient"] for case in again.cases} == {f"p{number}" for number in range(PATIENTS)}
    drawn = Draws(0, 200).measures(again)["auc"][1:]  # as `compare` does
    assert (again.measures["auc"].low, again.measures["auc"].high) == pytest.approx(np.percentile(drawn, (2.5, 97.5)))


def test_a_patient_in_two_splits_is_refused(regions):
    text = (regions / "labels.csv").read_text().splitlines()
    rows = [f"{line},{'train' if line.split(',')[0].endswith('x') else 'test'}" for line in text[1:]]
    (regions / "labels.csv").write_text("\n".join([text[0] + ",split", *rows]))
    with pytest.raises(OptionError, match="patient p0 is in two splits: p0x in train, p0y in test"):
        read_labels(VectorTable(regions / "vectors.csv"), regions / "labels.csv")


def test_patients_are_drawn_and_not_cases():
    """Everyone twice is nobody more: the interval is that of everyone once."""
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(60) % 2)
    scores = np.clip(0.5 + 0.2 * (labels - 0.5) + rng.normal(0, 0.2, 60), 0, 1)
    probabilities = np.stack([1 - scores, scores], axis=1)
    once = classification_intervals(labels, probabilities[None], resamples=300)
    twice = [each.repeat(2, axis=0) for each in (labels, probabilities)]
    patients = groups_of([f"p{number // 2:02}" for number in range(120)])
    together = classification_intervals(twice[0], twice[1][None], resamples=300, groups=patients)
    assert together["auc"] == pytest.approx(once["auc"], abs=1e-12)
    apart = classification_intervals(twice[0], twice[1][None], resamples=300)
    assert apart["auc"][1] - apart["auc"][0] < 0.9 * (once["auc"][1] - once["auc"][0])

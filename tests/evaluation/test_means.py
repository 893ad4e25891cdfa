"""Means over findings against scikit-learn on the matrix of findings, and their intervals against a plain loop."""

import csv
import json

import numpy as np
import pytest
from sklearn import metrics

from featlift.errors import OptionError
from featlift.evaluation import (
    Probe,
    classification_measures,
    compare,
    knn,
    mean_intervals,
    predictions_by_task,
    predictions_of,
    probe,
    read_labels,
    read_result,
    read_results,
    table,
    write_result,
)
from tests.support.stores import splits_of, write_store

NAMES = ("nodule", "effusion", "hernia", "emphysema")
SCORES = ("auc", "accuracy", "precision", "recall", "f1")
SPLITS = splits_of([f"case{number:03d}" for number in range(72)])
TRAINED, TESTED = ([at for at, split in enumerate(SPLITS.values()) if split == part] for part in ("train", "test"))
NUMBERS = np.arange(72)
#: The third is rare: three of the tested cases have it.
FINDINGS = np.stack([NUMBERS * 5 % 7 < 4, NUMBERS * 3 % 11 < 5, NUMBERS % 13 == 5, NUMBERS % 3 > 0], axis=1).astype(int)
EVERYTHING = np.ones((72, 4), dtype=bool)
#: Effusion is known of half the cases, emphysema of three of the tested ones.
GAPS = EVERYTHING.copy()
GAPS[1::2, 1] = False
GAPS[TESTED[3:], 3] = False


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two of the same cases, each finding a direction of its own, under less noise and more."""
    folder = tmp_path_factory.mktemp("stores")
    directions = np.random.default_rng(0).normal(size=(4, 8))
    made = []
    for name, noise in (("a", 2.0), ("b", 4.0)):
        tokens = 2 * (FINDINGS - 0.5) @ directions + noise * np.random.default_rng(ord(name)).normal(size=(72, 8))
        cases = {case_id: row[None].astype(np.float32) for case_id, row in zip(SPLITS, tokens, strict=True)}
        made.append(write_store(folder / f"{name}.zarr", cases, mode=f"2d-{name}"))
    return made


@pytest.fixture
def findings(tmp_path):
    """Write a CSV of findings, with blanks for what is not known."""

    def written(known=EVERYTHING, values=FINDINGS):
        lines = ["id,split," + ",".join(NAMES)]
        for number, (case_id, split) in enumerate(SPLITS.items()):
            words = [str(value) if known[number, at] else "" for at, value in enumerate(values[number])]
            lines.append(",".join([case_id, split, *words]))
        (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "l.csv"

    return written


def matrix(mean):
    """Findings ``(N, K)`` and probabilities ``(S, N, K)`` of a mean's cases, nan for what is not known."""
    truth = np.full((len(mean.cases), len(NAMES)), np.nan)
    positives = np.full((len(mean.seeds) or 1, *truth.shape), np.nan)
    for row, case in enumerate(mean.cases):
        for name in case["label"]:
            truth[row, NAMES.index(name)] = float(case["label"][name])
            positives[:, row, NAMES.index(name)] = [each[1] for each in case["probabilities"][name]]
    return truth, positives


def of_one(truth, positive):
    """scikit-learn's scores of one finding; no AUC without both classes."""
    predicted = positive > 0.5
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, average="binary", pos_label=1, zero_division=0
    )
    auc = metrics.roc_auc_score(truth, positive) if len(np.unique(truth)) == 2 else np.nan
    return [auc, metrics.accuracy_score(truth, predicted), precision, recall, f1]


def of_matrix(truth, positive, average):
    """scikit-learn's scores of a matrix of findings: a number a finding without an average, or their macro mean."""
    predicted = positive > 0.5
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, average=average, zero_division=0
    )
    correct = [metrics.accuracy_score(*columns) for columns in zip(truth.T, predicted.T, strict=True)]
    accuracy = 1 - metrics.hamming_loss(truth, predicted) if average else correct
    return [metrics.roc_auc_score(truth, positive, average=average), accuracy, precision, recall, f1]


def in_a_loop(truth, positives, draws):
    """Scores of drawn cases, finding by finding and seed by seed: the mean of those that there are, ``(R, 5)``."""
    found = []
    for draw in draws:
        by_finding = []
        for column in range(truth.shape[1]):
            rows = [row for row in draw if not np.isnan(truth[row, column])]
            if rows:
                by_seed = [of_one(truth[rows, column], positive[rows, column]) for positive in positives]
                by_finding.append(np.mean(by_seed, axis=0))
        found.append(np.nanmean(by_finding, axis=0))
    return np.array(found)


EVALUATIONS = {
    "knn": lambda store, tasks: knn(store, tasks, ks=(7, 15), resamples=20),
    "logistic": lambda store, tasks: probe(store, tasks, Probe("logistic", resamples=20)),
    "planecycle": lambda store, tasks: probe(store, tasks, Probe(seeds=(0, 3), iterations=200, resamples=20)),
    "ct-rate": lambda store, tasks: probe(store, tasks, Probe("ct-rate", seeds=(0, 1, 2), resamples=20)),
}


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_by_class_and_mean_they_are_scikit_learns(stores, findings, evaluation):
    """Of the matrix of findings, each known of every case: by class, and macro."""
    found = list(EVALUATIONS[evaluation](stores[0], read_labels(stores[0], findings())))
    ks = (7, 15) if evaluation == "knn" else (None,)
    assert len(found) == 5 * len(ks)
    for k in ks:
        *own, mean = [result for result in found if result.protocol.get("k") == k]
        assert [result.task for result in own] == mean.protocol["tasks"] == list(NAMES)
        assert mean.task == "mean of 4"
        truth, positives = matrix(mean)
        for average, results in ((None, own), ("macro", [mean])):
            by_seed = [of_matrix(truth, positive, average) for positive in positives]
            for at, name in enumerate(SCORES):
                expected = np.reshape([scores[at] for scores in by_seed], (len(positives), len(results))).T
                for measure, values in zip([result.measures[name] for result in results], expected, strict=True):
                    assert measure.mean == pytest.approx(values.mean(), abs=1e-12)
                    assert measure.by_seed == (pytest.approx(values, abs=1e-12) if mean.seeds else None)
                    assert measure.sd == (pytest.approx(values.std(ddof=1), abs=1e-12) if mean.seeds else None)
        assert 0.5 < mean.measures["auc"].mean < 1


@pytest.mark.parametrize("evaluation", ["knn", "ct-rate"])
def test_with_blanks_each_finding_is_that_of_its_known_cases(stores, findings, evaluation):
    found = list(EVALUATIONS[evaluation](stores[0], read_labels(stores[0], findings(GAPS))))
    mean = found[-1]
    truth, positives = matrix(mean)
    assert np.isnan(truth).sum(axis=0).tolist() == [0, 12, 0, 21]
    expected = []
    for column, by_seed in zip(truth.T, positives.T, strict=True):
        known = ~np.isnan(column)
        expected.append(np.mean([of_one(column[known], each[known]) for each in by_seed.T], axis=0))
    for name, by_finding in zip(SCORES, np.transpose(expected), strict=True):
        assert mean.measures[name].mean == pytest.approx(by_finding.mean(), abs=1e-12)
        assert mean.measures[name].cases == 24
    own = {result.task: result for result in found if result.protocol.get("k") == mean.protocol.get("k")}
    for name, predictions in predictions_by_task(mean).items():
        labels, probabilities = predictions_of(own[name])
        np.testing.assert_array_equal(predictions.labels, labels)
        np.testing.assert_array_equal(predictions.probabilities, probabilities)
        assert [mean.cases[row]["id"] for row in predictions.cases] == [case["id"] for case in own[name].cases]
    with pytest.raises(OptionError, match="is the mean of 4 tasks: read it with predictions_by_task"):
        predictions_of(mean)


def test_the_interval_is_that_of_a_plain_loop_over_the_same_draws(stores, findings):
    """Some draws have none with the rare finding, and some none of which the little-known one is known."""
    tasks = read_labels(stores[0], findings(GAPS))
    *_, mean = probe(stores[0], tasks, Probe("ct-rate", seeds=(0, 1), seed=3, resamples=80))
    truth, positives = matrix(mean)
    rng = np.random.default_rng(3)
    draws = [rng.integers(24, size=24) for _ in range(80)]
    assert any(not truth[draw, 2].any() for draw in draws)
    assert any(np.isnan(truth[draw, 3]).all() for draw in draws)
    ends = np.percentile(in_a_loop(truth, positives, draws), (2.5, 97.5), axis=0).T
    for name, (low, high) in zip(SCORES, ends, strict=True):
        measure = mean.measures[name]
        assert (measure.low, measure.high) == pytest.approx((low, high), abs=1e-12), name
        assert measure.low < measure.mean < measure.high


def test_every_finding_is_measured_on_the_same_draws(stores, findings):
    """A finding beside itself has the interval that it has alone, as it could not if each had draws of its own."""
    nodule, *_, mean = knn(stores[1], read_labels(stores[1], findings()), ks=(15,), resamples=200)
    alone = nodule.measures["auc"]
    twice = [predictions_by_task(mean)["nodule"]] * 2
    assert mean_intervals(twice, 24, resamples=200)["auc"] == pytest.approx((alone.low, alone.high), abs=1e-12)


def test_tasks_of_several_classes_have_a_mean_too(stores, tmp_path):
    lines = [f"{case_id},{'abc'[number % 3]},{number // 3 % 2}" for number, case_id in enumerate(SPLITS)]
    (tmp_path / "two.csv").write_text("\n".join(["id,kind,finding", *lines]) + "\n")
    tasks = read_labels(stores[0], tmp_path / "two.csv", ["kind", "finding"])
    kind, finding, mean = knn(stores[0], tasks, ks=(5,), resamples=9)
    assert mean.details["classes"] == {"kind": ["a", "b", "c"], "finding": ["0", "1"]}
    intervals = mean_intervals(list(predictions_by_task(mean).values()), 72, resamples=9)
    for name, measure in mean.measures.items():
        assert measure.mean == pytest.approx((kind.measures[name].mean + finding.measures[name].mean) / 2)
        assert (measure.low, measure.high) == intervals[name]
    assert {case["split"] for case in mean.cases} == {None}


def test_one_task_has_no_mean_and_a_handful_of_cases_no_interval(stores, findings):
    (only,) = knn(stores[0], read_labels(stores[0], findings(), ["nodule"]), ks=(3,), resamples=5)
    assert only.task == "nodule"
    few = EVERYTHING.copy()
    few[TESTED[9:]] = False
    *_, mean = knn(stores[0], read_labels(stores[0], findings(few), ["nodule", "effusion"]), ks=(3,), resamples=5)
    assert len(mean.cases) == 9
    assert {(measure.low, measure.high) for measure in mean.measures.values()} == {(None, None)}


def test_a_k_is_averaged_over_the_tasks_that_have_it(stores, findings):
    """Emphysema is known of ten training cases, so that no more than ten can vote."""
    known = EVERYTHING.copy()
    known[TRAINED[10:], 3] = False
    found = knn(stores[0], read_labels(stores[0], findings(known)), ks=(5, 20), resamples=5)
    means = [result for result in found if result.task not in NAMES]
    assert [(mean.protocol["k"], mean.task, mean.protocol["tasks"]) for mean in means] == [
        (5, "mean of 4", list(NAMES)),
        (20, "mean of 3", list(NAMES[:3])),
    ]


def test_files_of_two_stores_are_compared(stores, findings, featlift, tmp_path):
    """Means by both commands; their difference with an interval by drawing the same cases for both stores."""
    command = [*(store.path for store in stores), "--labels", findings(GAPS), "--resamples", "30"]
    for each in (["knn", *command, "-k", "7"], ["probe", *command, "--protocol", "ct-rate", "--seeds", "0,1,2"]):
        done = featlift(*each)
        assert done.returncode == 0, done.stderr
        assert [line.split()[3:6] for line in done.stdout.splitlines()[-2:]] == [["mean", "of", "4"]] * 2
    whats = ("knn-7", "probe-ct-rate")
    paths = {(store, what): tmp_path / f"results/{store}-{what}-cls-mean-of-4.json" for what in whats for store in "ab"}
    means = {key: read_result(path) for key, path in paths.items()}
    assert done.stdout.splitlines()[-1].split() == table([means["b", "probe-ct-rate"]]).splitlines()[-1].split()
    done = featlift("compare", "results", "--to", "json", "--resamples", "60", "--seed", "2")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    questions = [" ".join(question) for question in document["questions"]]
    assert len(questions) == 5 + 2 * 5
    rng = np.random.default_rng(2)
    draws = [np.arange(24), *(rng.integers(24, size=24) for _ in range(60))]
    for what, over in zip(whats, ("", "seeds"), strict=True):
        question = questions.index(f"{what.replace('knn-', 'knn ').replace('probe-', 'probe ')} of mean of 4 AUC")
        (difference,) = [each for each in document["differences"] if each["question"] == question]
        areas = [in_a_loop(*matrix(means[store, what]), draws)[:, 0] for store in "ab"]
        expected = [(areas[1] - areas[0])[0], *np.percentile((areas[1] - areas[0])[1:], (2.5, 97.5))]
        assert [difference[name] for name in ("mean", "low", "high")] == pytest.approx(expected, abs=1e-12)
        assert difference["over"] == over
    turned = json.loads(paths["b", "knn-7"].read_text())
    turned["cases"].reverse()
    (tmp_path / "turned.json").write_text(json.dumps(turned))
    (difference,) = compare([means["a", "knn-7"], means["b", "knn-7"]], resamples=60).differences
    (again,) = compare(read_results([paths["a", "knn-7"], tmp_path / "turned.json"]), resamples=60).differences
    assert (again.mean, again.low, again.high) == pytest.approx((difference.mean, difference.low, difference.high))


def test_means_of_other_findings_or_truths_are_not_compared(stores, findings):
    def mean_of(store, path, *columns):
        *_, mean = knn(store, read_labels(store, path, columns), ks=(7,), resamples=5)
        return mean

    one, other = stores
    mean, pair = mean_of(one, findings()), mean_of(other, findings(), "nodule", "effusion")
    with pytest.raises(OptionError, match="is of the task 'mean of 2', not 'mean of 4'"):
        compare([mean, pair])
    with pytest.raises(OptionError, match=r"protocol tasks=\['nodule', 'hernia'\], not tasks=\['nodule', 'effusion'\]"):
        compare([pair, mean_of(one, findings(), "nodule", "hernia")])
    unknown = EVERYTHING.copy()
    unknown[TESTED[2], 0] = False
    with pytest.raises(OptionError, match="have other masks or labels of case010"):
        compare([mean, mean_of(other, findings(unknown))])
    changed = FINDINGS.copy()
    changed[TESTED[3], 1] ^= 1
    with pytest.raises(OptionError, match="have other masks or labels of case011"):
        compare([mean, mean_of(other, findings(EVERYTHING, changed))])


def test_the_file_holds_what_its_numbers_were_made_from(stores, findings, tmp_path):
    known = GAPS.copy()
    known[:2] = False
    how = Probe("ct-rate", seeds=(0, 1), resamples=20)
    *_, mean = probe(stores[0], read_labels(stores[0], findings(known)), how)
    path = write_result(mean, tmp_path)
    assert path.name == "a-probe-ct-rate-cls-mean-of-4.json"
    again = read_result(path)
    assert again == mean
    assert again.left_out == ["case000", "case001"]
    predictions = predictions_by_task(again)
    intervals = mean_intervals(list(predictions.values()), len(again.cases), 0.9, **again.bootstrap)
    assert {name: (measure.low, measure.high) for name, measure in again.measures.items()} == intervals
    by_seed = [
        np.mean([classification_measures(each.labels, each.probabilities[seed])["f1"] for each in predictions.values()])
        for seed in range(2)
    ]
    assert again.measures["f1"].by_seed == pytest.approx(by_seed)


def test_its_csv_has_columns_for_each_task(stores, findings, tmp_path):
    how = Probe("ct-rate", seeds=(0, 1), resamples=20)
    *_, mean = probe(stores[0], read_labels(stores[0], findings(GAPS)), how)
    with write_result(mean, tmp_path).with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [(f"label_{name}", f"probability_{name}_0", f"probability_{name}_1") for name in NAMES]
    assert list(rows[0]) == ["id", "split", *(column for own in columns for column in own)]
    assert [row["id"] for row in rows] == [case["id"] for case in mean.cases]
    truth, positives = matrix(mean)
    for at, (label, _, positive) in enumerate(columns):
        known = ~np.isnan(truth[:, at])
        assert [row[label] for row in rows] == [f"{value:.0f}".replace("nan", "") for value in truth[:, at]]
        assert [row[positive] != "" for row in rows] == known.tolist()
        given = np.array([row[positive] for row in rows])[known].astype(float)
        np.testing.assert_allclose(given, positives[:, known, at].mean(axis=0), atol=1e-12)

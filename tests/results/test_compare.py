"""Results side by side: what may be compared, and that every number is scipy's, scikit-learn's or known."""

import csv
import io
import json
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from featlift.errors import OptionError
from featlift.evaluation import (
    Measure,
    Result,
    compare,
    comparison_text,
    holm,
    interval_of_mean,
    read_result,
    table,
    write_result,
)
from tests.support.scans import patch_mean_options, write_nifti, write_scan

PATH = os.environ.get("PYTHONPATH", "")
RECIPE = {"model": "vits16", "weights_sha256": "ab" * 32, "mode": "2d", "cycle": None, "layers": [11], "size": [224]}
PCG = RECIPE | {"mode": "pcg", "cycle": "HW,DW,DH,HW"}


def of_cases(name, values, recipe=RECIPE, measure="dice", **changes):
    """A result whose cases have values of their own."""
    cases = [{"id": f"c{n}", measure: value, "mask_sha256": f"{n}"} for n, value in enumerate(values)]
    known = [value for value in values if value is not None]
    measures = {measure: Measure.of(interval_of_mean(known))}
    protocol = {"name": "prototype", "nearest": "corner", "layer": None}
    return replace(Result("featdice", name, f"{name}.zarr", recipe, protocol, measures, cases), **changes)


def of_seeds(name, positives, recipe=RECIPE, **changes):
    """A probe's result, from the probability of the second class by seed and case."""
    positives = np.asarray(positives)
    probabilities = np.stack([1 - positives, positives], axis=-1).swapaxes(0, 1).tolist()
    cases = [
        {"id": f"c{n}", "label": "ny"[TRUTH[n]], "split": "test", "probabilities": each}
        for n, each in enumerate(probabilities)
    ]
    areas = [float(roc_auc_score(TRUTH, each)) for each in positives]
    measures = {"auc": Measure(float(np.mean(areas)), len(TRUTH), float(np.std(areas, ddof=1)), 0.1, 0.9, areas)}
    protocol = {"name": "planecycle", "input": "cls", "specificity": 0.9}
    how = {"task": "mass", "seeds": [0, 1, 2, 3], "details": {"classes": ["n", "y"]}} | changes
    return Result("probe", name, f"{name}.zarr", recipe, protocol, measures, cases, **how)


RNG = np.random.default_rng(0)
TRUTH = RNG.integers(2, size=60)
ONE, OTHER = (TRUTH * 0.3 + RNG.uniform(size=(4, 60)) * scale for scale in (0.5, 0.7))


def test_offsets_tell_features_apart_where_those_of_the_layer_differ():
    """A store of one layer beside one of two: the recipe has an offset for each that the store holds."""
    cnn = RECIPE | {"layers": [4], "offsets": [18.0]}
    same, older = PCG | {"layers": [3, 4], "offsets": [9.5, 18.0]}, PCG | {"layers": [4]}
    values = RNG.uniform(size=8).tolist()
    assert compare([of_cases("a", values, cnn), of_cases("b", values, same)]).rows == [
        {"model": "vits16", "mode": "2d"},
        {"model": "vits16", "mode": "pcg"},
    ]
    rows = compare([of_cases("a", values, same), of_cases("b", values, older)]).rows
    assert [row["offsets"] for row in rows] == ["18.0", "-"]


def test_differences_of_cases_are_scipys():
    mine, its = RNG.uniform(size=20).tolist(), RNG.uniform(size=20).tolist()
    comparison = compare([of_cases("a", mine), of_cases("b", its, PCG)])
    (difference,) = comparison.differences
    t, p = stats.ttest_rel(its, mine)
    assert (difference.t, difference.p, difference.p_holm) == pytest.approx((t, p, p))
    assert (difference.over, difference.n) == ("cases", 20)
    assert difference.mean == pytest.approx(np.mean(its) - np.mean(mine))
    expected = stats.bootstrap((np.subtract(its, mine),), np.mean, method="percentile", rng=0).confidence_interval
    assert (difference.low, difference.high) == pytest.approx(tuple(expected), abs=0.01)
    values = [row[0] for row in comparison.values]
    assert [value.sd for value in values] == pytest.approx([np.std(each, ddof=1) for each in (mine, its)])
    assert comparison.rows == [{"model": "vits16", "mode": "2d"}, {"model": "vits16", "mode": "pcg"}]


def test_differences_of_seeds_and_of_areas_under_curves():
    """t over the seeds, the interval by drawing the same cases for both."""
    comparison = compare([of_seeds("a", ONE), of_seeds("b", OTHER, PCG)], resamples=2000)
    (difference,) = comparison.differences
    areas = [[roc_auc_score(TRUTH, each) for each in seeds] for seeds in (ONE, OTHER)]
    t, p = stats.ttest_rel(areas[1], areas[0])
    assert (difference.t, difference.p) == pytest.approx((t, p))
    assert (difference.over, difference.n) == ("seeds", 4)
    assert difference.mean == pytest.approx(np.mean(areas[1]) - np.mean(areas[0]))
    assert comparison.values[0][0].sd == pytest.approx(np.std(areas[0], ddof=1))
    rng = np.random.default_rng(5)
    order = np.argsort([f"c{n}" for n in range(60)])
    found = []
    for _ in range(150):
        draw = order[rng.integers(60, size=60)]
        means = [np.mean([roc_auc_score(TRUTH[draw], each[draw]) for each in seeds]) for seeds in (ONE, OTHER)]
        found.append(means[1] - means[0])
    assert (difference.low, difference.high) == pytest.approx(np.percentile(found, (2.5, 97.5)), abs=0.02)


def test_the_order_of_cases_does_not_matter_and_missing_values_take_no_part():
    mine, its = RNG.uniform(size=9).tolist(), [None, *RNG.uniform(size=8).tolist()]
    first, second = of_cases("a", mine, measure="hd95"), of_cases("b", its, PCG, measure="hd95")
    turned = replace(second, cases=second.cases[::-1])
    differences = [compare([first, other], ["hd95"]).differences for other in (second, turned)]
    assert differences[0] == differences[1]
    assert differences[0][0].n == 8
    assert differences[0][0].t == pytest.approx(stats.ttest_rel(its[1:], mine[1:]).statistic)


def test_holm():
    """Worked by hand; and a p that is none."""
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, np.nan, 0.9])[0::2] == pytest.approx([1, 1])
    assert np.isnan(holm([0.5, np.nan])[1])
    three = [of_cases(name, RNG.uniform(size=12).tolist(), RECIPE | {"mode": name}) for name in ("2d", "pcg", "pcm")]
    differences = compare(three).differences
    assert [each.p_holm for each in differences] == pytest.approx(holm([each.p for each in differences]))
    assert max(each.p_holm / each.p for each in differences) == pytest.approx(3)


def test_results_that_are_the_same_have_no_test():
    values = [0.5, 0.7, 0.9] * 4
    (difference,) = compare([of_cases("a", values), of_cases("b", values, PCG)]).differences
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert np.isnan([difference.t, difference.p, difference.p_holm]).all()


def test_a_handful_of_cases_has_no_interval():
    """Nor has their difference, of whichever kind; and a table says of how many a mean is."""
    few = [of_cases("a", [0.5, 0.7, None, 0.8]), of_cases("b", [0.4, 0.6, 0.5, 0.9], PCG)]
    [difference] = compare(few).differences
    assert (difference.low, difference.high, difference.n) == (None, None, 3)
    assert table(few).splitlines()[1].endswith(" 4      0.667 (n = 3)")
    assert table(few).splitlines()[2].endswith(" 4      0.600")
    short = [replace(result, cases=result.cases[:9]) for result in (of_seeds("a", ONE), of_seeds("b", OTHER, PCG))]
    [difference] = compare(short).differences
    assert (difference.low, difference.high) == (None, None)


THIRD = {"name": "prototype", "nearest": "corner", "layer": 3}


def test_rows_are_told_apart_by_what_differs_within_a_model_and_mode():
    values = [0.1, 0.4, 0.5]
    results = [
        of_cases("a", values),
        of_cases("b", values, PCG),
        of_cases("c", values, PCG | {"cycle": "DW,DH", "layers": [3, 11]}),
        of_cases("d", values, PCG | {"layers": [3, 11]}, protocol=THIRD),
        of_seeds("e", ONE),
        of_seeds("f", OTHER, PCG),
    ]
    comparison = compare(results, resamples=50)
    assert [comparison.name(row) for row in range(4)] == [
        "2d layer 11",
        "pcg cycle HW,DW,DH,HW layer 11",
        "pcg cycle DW,DH layer 11",
        "pcg cycle HW,DW,DH,HW layer 3",
    ]
    assert comparison.questions == [("featdice prototype", "Dice"), ("probe planecycle of mass", "AUC")]


def test_models_by_tasks():
    other = {"task": "cyst"}
    results = [of_seeds("a", ONE), of_seeds("a2", OTHER, **other), of_seeds("b", OTHER, PCG), of_seeds("b2", ONE, PCG, **other)]  # fmt: skip  # noqa: E501
    comparison = compare(results, resamples=50)
    assert comparison.questions == [("probe planecycle of mass", "AUC"), ("probe planecycle of cyst", "AUC")]
    assert comparison.stores == ["a.zarr, a2.zarr", "b.zarr, b2.zarr"]
    means = [[value.mean for value in row] for row in comparison.values]
    assert means[0] == means[1][::-1]
    assert [(each.question, each.row, each.against) for each in comparison.differences] == [(0, 1, 0), (1, 1, 0)]


NEAREST = {"name": "prototype", "nearest": "centre", "layer": None}
REFUSED = {
    "other cases": ([of_cases("b", [0.5] * 4, PCG)], "a and b were scored on other cases: 1 are of one only (c3)"),
    "trained on others": (
        [of_cases("b", [0.5] * 3, PCG, details={"train": ["x"]})],
        "trained on other cases: 1",
    ),
    "other masks": (
        [of_cases("b", [0.5] * 3, PCG, cases=[{"id": f"c{n}", "dice": 1, "mask_sha256": "x"} for n in range(3)])],
        "other masks or labels of c0",
    ),
    "protocol": ([of_cases("b", [0.5] * 3, PCG, protocol=NEAREST)], "nearest=centre, not nearest=corner"),
    "kind": ([of_seeds("b", ONE)], "is a probe, not a featdice"),
    "task": ([of_seeds("b", ONE), of_seeds("c", ONE, PCG, task="cyst"), of_cases("d", [0.5] * 3, PCG)], "'cyst', not"),
    "the same features": ([of_cases("b", [0.5] * 3)], "a and b are of the same features"),
    "alone": ([], "the only result"),
    "measure": ([of_cases("b", [0.5] * 3, PCG)], "measure 'auc': the results have dice"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_compared_says_what_differs(kind):
    others, says = REFUSED[kind]
    with pytest.raises(OptionError) as refusal:
        compare([of_cases("a", [0.1, 0.2, 0.3]), *others], ["auc"] if kind == "measure" else ())
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_other_seeds_make_no_pairs():
    with pytest.raises(OptionError, match="a has the seeds 0, 1, 2, 3, b 4, 5, 6, 7"):
        compare([of_seeds("a", ONE), of_seeds("b", OTHER, PCG, seeds=[4, 5, 6, 7])])


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(2)
    for name, recipe in (("under_score", RECIPE), ("b", PCG)):
        write_result(of_cases(name, rng.uniform(size=16).tolist(), recipe), tmp_path / "results")
    return tmp_path


def test_from_files_in_every_format(featlift, folder):
    files = sorted((folder / "results").glob("*.json"))
    comparison = compare([read_result(file) for file in files])
    done = featlift("compare", "results")
    assert done.returncode == 0, done.stderr
    assert done.stdout == comparison_text(comparison)
    (difference,) = comparison.differences
    assert f"| {difference.mean:+.3f} | [{difference.low:+.3f}, {difference.high:+.3f}] | 16 cases |" in done.stdout
    assert "± is the standard deviation over 16 cases" in done.stdout
    rows = list(csv.DictReader(io.StringIO(featlift("compare", *files, "--to", "csv").stdout)))
    assert [row["minus"] for row in rows] == ["", "", "pcg"]
    assert [float(row["value"]) for row in rows] == [*(each[0].mean for each in comparison.values), difference.mean]
    assert float(rows[2]["p_holm"]) == difference.p_holm
    document = json.loads(featlift("compare", *files, "--to", "json").stdout)
    assert document["differences"][0]["t"] == difference.t
    assert document["rows"] == comparison.rows
    latex = featlift("compare", *files, "--to", "latex").stdout
    assert r"under\_score" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    lines = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert [line.count(" & ") for line in lines] == [3, 3, 3, 8, 8]
    assert featlift("compare", *files, "--over", "seeds").stdout.count("16 cases") == 0


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_figure(featlift, folder, suffix):
    done = featlift("compare", "results", "--figure", f"figures/f.{suffix}")
    assert done.returncode == 0, done.stderr
    data = (folder / f"figures/f.{suffix}").read_bytes()
    assert data.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix])
    if suffix == "svg":
        assert ElementTree.fromstring(data).tag.endswith("svg")


def test_wrong_calls(featlift, folder):
    for options, says in {
        ("results", "--to", "excel"): "choose one of markdown, csv, latex, json",
        ("results", "--over", "patients"): "choose one of seeds, cases",
        ("results", "--figure", "f.bmp"): ".svg, .png, .pdf",
        ("results/b.json",): "the only result",
        ("nowhere.json",): "no such file",
    }.items():
        done = featlift("compare", *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert says in done.stderr


def test_without_matplotlib_it_says_what_to_install(featlift_process, folder):
    (folder / "matplotlib.py").write_text("raise ImportError('not here')")
    done = featlift_process("compare", "results", "--figure", "f.svg", PYTHONPATH=f"{folder}:{PATH}")
    assert done.returncode == 2, done.stderr
    assert "pip install 'featlift[pictures]'" in done.stderr


def test_what_knn_probes_and_featdice_wrote(featlift, tmp_path):
    """Stores of two modes, through every command, into one table."""
    rows = ["id,label,split"]
    for n in range(12):
        write_scan(tmp_path / f"scans/s{n:02}.nii.gz", seed=n, shape=(12, 10, 4))
        labels = np.zeros((12, 10, 4), np.uint8)
        labels[2:6, 3:7, 1:3] = 1
        write_nifti(tmp_path / f"labels/s{n:02}.nii.gz", labels)
        rows.append(f"s{n:02},{'ab'[n % 2]},{('train', 'train', 'val', 'val', 'test', 'test')[n % 6]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    for mode in ("2d", "pcg"):
        options = [*patch_mean_options(tmp_path, patch=2, constant=0.5), "--mode", mode, "--layers", "0"]
        assert featlift("extract", "scans", "-o", f"{mode}.zarr", *options).returncode == 0
    stores, labels = ("2d.zarr", "pcg.zarr"), ("--labels", "labels.csv")
    for command in (
        ("knn", *stores, *labels, "-k", "1,3"),
        ("probe", *stores, *labels, "--iterations", "20", "--seeds", "0,1,2"),
        ("probe", *stores, *labels, "--protocol", "logistic"),
        ("probe", *stores, *labels, "--dense", "--masks", "labels", "--weighting", "labels"),
        ("featdice", *stores, "--masks", "labels"),
    ):
        done = featlift(*command)
        assert done.returncode == 0, done.stderr
    document = json.loads(featlift("compare", "results", "--to", "json", "--resamples", "50").stdout)
    asked = [" ".join(question) for question in document["questions"]]
    assert sorted(asked) == [
        "dense-probe linear Dice",
        "dense-probe linear HD95 mm",
        "featdice prototype Dice",
        "knn 1 of label AUC",
        "knn 3 of label AUC",
        "probe logistic of label ACC",
        "probe logistic of label AUC",
        "probe planecycle of label ACC",
        "probe planecycle of label AUC",
    ]
    assert [row["mode"] for row in document["rows"]] == ["2d", "pcg"]
    over = {question: each["over"] for question, each in zip(asked, document["differences"], strict=True)}
    assert over["probe planecycle of label AUC"] == "seeds"
    assert over["featdice prototype Dice"] == over["dense-probe linear Dice"] == "cases"
    assert over["knn 3 of label AUC"] == ""

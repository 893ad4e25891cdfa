"""The dense probe, from scans and masks to results. The network sees intensities, so every score is known."""

import csv

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy, interpolate

from featlift import open_store, read
from featlift.evaluation import (
    DenseProtocol,
    dense_probe,
    dice,
    draw_cells,
    fit_linear,
    read_result,
    surface_distances,
)
from featlift.volumes.masks import labels_on
from tests.support.scans import OBLIQUE, patch_mean_options, write_nifti

SHAPE = (24, 22, 12)
SPLITS = {"a": "train", "b": "train", "c": "train", "d": "test", "e": "test", "f": "val"}


def labels_of(name):
    """A block of 1 beside a block of 2, elsewhere in each patient."""
    at = 2 + "abcdef".index(name)
    labels = np.zeros(SHAPE, np.uint8)
    labels[at : at + 8, 4:12, 2:10] = 1
    labels[at : at + 8, 12:18, 2:10] = 2
    return labels


@pytest.fixture
def cohort(featlift, tmp_path):
    """A store of scans whose labels differ in brightness."""

    def extract(noise=0.0, patch=1, names="abcdef"):
        for name in names:
            labels = labels_of(name)
            scan = 100 * labels + noise * np.random.default_rng(ord(name)).normal(size=SHAPE)
            write_nifti(tmp_path / f"scans/{name}.nii.gz", scan.astype(np.float32))
            write_nifti(tmp_path / f"labels/{name}.nii.gz", labels)
        rows = "".join(f"{name},{split}\n" for name, split in SPLITS.items())
        (tmp_path / "splits.csv").write_text("id,split\n" + rows)
        options = [*patch_mean_options(tmp_path, patch, constant=0.5), "--mode", "2d", "--layers", "0"]
        done = featlift("extract", "scans", "--intensity", "window:-50,250", *options)
        assert done.returncode == 0, done.stderr
        return tmp_path

    return extract


PROBE = ("probe", "features.zarr", "--dense", "--masks", "labels", "--labels", "splits.csv", "--seeds", "0")


def test_labels_that_differ_in_their_features_are_all_found(featlift, cohort):
    folder = cohort()
    done = featlift(*PROBE, "--seeds", "0,1")
    assert done.returncode == 0, done.stderr
    result = read_result(folder / "results/features-dense-probe.json")
    assert [case["id"] for case in result.cases] == ["d", "e"]
    assert (result.kind, result.seeds, result.details["train"]) == ("dense-probe", [0, 1], ["a", "b", "c"])
    assert result.left_out == ["f"]
    assert result.measures["dice"].mean == result.measures["dice_2"].mean == 1
    assert result.measures["hd95"].mean == result.measures["asd_1"].mean == 0
    assert result.measures["dice"].by_seed == [1, 1]
    assert result.measures["dice"].sd == 0
    with (folder / "results/features-dense-probe.csv").open(newline="") as file:
        assert [float(row["dice"]) for row in csv.DictReader(file)] == [1, 1]
    assert "1.000 ± 0.000" in done.stdout
    without_labels = [option for option in PROBE if option not in ("--labels", "splits.csv")]
    done = featlift(*without_labels)
    assert (done.returncode, "no column split" in done.stderr) == (2, True)
    assert featlift("index", "features.zarr", "--labels", "splits.csv").returncode == 0
    assert featlift(*without_labels, "-o", "by-index").returncode == 0
    assert read_result(folder / "by-index/features-dense-probe.json").measures["dice"].mean == 1


def test_scores_are_those_of_the_predictions_it_saves(featlift, cohort):
    """From noisy scans, measured again from the NIfTI files on the stored scan's grid, in millimetres."""
    import nibabel as nib

    folder = cohort(noise=60, patch=2)
    done = featlift(*PROBE, "--save-maps", "maps")
    assert done.returncode == 0, done.stderr
    result = read_result(folder / "results/features-dense-probe.json")
    for case in result.cases:
        prediction = nib.load(folder / f"maps/features-dense-probe/{case['id']}__prediction.nii.gz")
        truth = nib.load(folder / f"labels/{case['id']}.nii.gz")
        # in the orientation of the prediction: axes flip, spacing stays
        turned = nib.orientations.ornt_transform(
            nib.io_orientation(truth.affine), nib.io_orientation(prediction.affine)
        )
        truth = truth.as_reoriented(turned)
        found, mask = np.asarray(prediction.dataobj), np.asarray(truth.dataobj)
        assert found.shape == mask.shape
        for label in (1, 2):
            (score,) = case["labels"][str(label)]
            one, other = found == label, mask == label
            assert 0.2 < score["dice"] < 1
            assert score["dice"] == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))
            distances = surface_distances(one, other, prediction.header.get_zooms())
            assert score["hd95"] == pytest.approx(distances.hd95, rel=1e-4)
            assert score["asd"] == pytest.approx(distances.asd, rel=1e-4)
        assert case["dice"] == pytest.approx(np.mean([case["labels"][name][0]["dice"] for name in "12"]))


def test_a_second_implementation_says_the_same(cohort):
    """scikit-learn's pipeline on all cells, torch's interpolation of its logits."""
    folder = cohort(noise=60, patch=2)
    store = open_store(folder / "features.zarr")
    masks = {name: folder / f"labels/{name}.nii.gz" for name in SPLITS}
    features, labels = {}, {}
    for name in "abcde":
        case = store[name]
        features[name] = torch.from_numpy(case.dense[:].astype(np.float32))
        labels[name] = labels_on(read(masks[name]), case.scan.shape, case.scan_affine)
        assert case.dense.shape[1:] == case.valid_cells

    def on_cells(name):
        values = torch.from_numpy(labels[name])[None, None].float()
        return interpolate(values, features[name].shape[1:], mode="nearest-exact")[0, 0].numpy().ravel()

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(np.concatenate([features[n].flatten(1).T for n in "abc"]), np.concatenate([on_cells(n) for n in "abc"]))
    for scores in dense_probe(store, masks, SPLITS):
        logits = model.decision_function(features[scores.id].flatten(1).T.numpy()).T
        cells = torch.from_numpy(logits.reshape(3, *features[scores.id].shape[1:]))[None]
        up = interpolate(cells, labels[scores.id].shape, mode="trilinear", align_corners=False)
        predicted = up[0].argmax(dim=0).numpy()
        for label, (score,) in scores.labels.items():
            assert score.dice == pytest.approx(dice(predicted == label, labels[scores.id] == label), abs=0.005)


def test_the_same_seed_gives_the_same_scores_and_cells_are_bounded(cohort):
    folder = cohort(noise=60)
    store = open_store(folder / "features.zarr")
    masks = {name: folder / f"labels/{name}.nii.gz" for name in SPLITS}
    few = DenseProtocol(cells=90)
    first, again = (dense_probe(store, masks, SPLITS, few, seeds=(3, 4)) for _ in range(2))
    assert first == again
    assert first[0].labels[1][0] != first[0].labels[1][1]
    one = dense_probe(store, masks, SPLITS, few, seeds=(4,))
    assert [case.labels[1][0] for case in one] == [case.labels[1][1] for case in first]


def test_rare_labels_weigh_as_much_as_others_if_asked(cohort):
    """Noise so strong that a label which is rare is rarely worth predicting, unless it counts as much."""
    folder = cohort(noise=150)
    masks = {name: folder / f"labels/{name}.nii.gz" for name in SPLITS}
    sizes = {}
    for weighting in ("cells", "labels"):
        cases = dense_probe(folder / "features.zarr", masks, SPLITS, DenseProtocol(weighting), save_maps=folder / "m")
        assert len(cases) == 2
        sizes[weighting] = np.count_nonzero(np.asarray(_load(folder / "m/d__prediction.nii.gz")) > 0)
    assert sizes["labels"] > 1.3 * sizes["cells"]


def _load(path):
    import nibabel as nib

    return nib.load(path).dataobj


def test_a_label_that_is_never_predicted_has_no_distance(featlift, cohort):
    folder = cohort(noise=3000)
    assert featlift(*PROBE).returncode == 0
    result = read_result(folder / "results/features-dense-probe.json")
    assert result.measures["dice"].mean < 0.2
    missing = [case for case in result.cases if any(score["dice"] == 0 for (score,) in case["labels"].values())]
    assert missing
    assert all(case["hd95"] is None for case in missing)
    assert result.measures["hd95"].cases == len(result.cases) - len(missing)


def test_draws_are_of_every_label_and_unbiased():
    rng = np.random.default_rng(0)
    labels = np.zeros((10, 30, 30), np.int32)
    labels[0, 0, :7], labels[3:6] = 5, 2
    draw = draw_cells(labels, 300, rng)
    assert len(draw.cells) == len(set(draw.cells.tolist())) == 300
    np.testing.assert_array_equal(labels.ravel()[draw.cells], draw.labels)
    assert np.unique(draw.labels, return_counts=True)[1].tolist() == [147, 146, 7]
    for label in (0, 2, 5):
        assert draw.weights[draw.labels == label].sum() == pytest.approx((labels == label).sum())
    everything = draw_cells(labels, 10**6, rng)
    assert sorted(everything.cells.tolist()) == list(range(labels.size))
    assert (everything.weights == 1).all()
    values = rng.normal(size=labels.size)
    sums = [(values[draw.cells] * draw.weights).sum() for draw in (draw_cells(labels, 900, rng) for _ in range(400))]
    assert np.mean(sums) == pytest.approx(values.sum(), abs=4 * np.std(sums) / 20)


@pytest.mark.parametrize("count", [2, 3])
def test_the_classifier_is_the_minimum_of_its_loss(count):
    """Stationary by torch's gradients of cross entropy and penalty, written as documented."""
    rng = np.random.default_rng(1)
    labels = rng.integers(count, size=400).astype(np.int32) * 4
    features = (rng.normal(size=(400, 6)) * [1, 5, 0.1, 1, 1, 0] + labels[:, None] / 5 + 3).astype(np.float32)
    features[:, 5] = 7  # says nothing
    weights = rng.uniform(0.2, 3, 400)
    model = fit_linear(features, labels, weights, c=0.5)
    assert model.labels == tuple(range(0, 4 * count, 4))
    mean = np.average(features, axis=0, weights=weights)
    deviation = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights)) + (features.std(axis=0) == 0)
    scaled = torch.from_numpy((features - mean) / deviation)
    own = torch.tensor(model.weights * deviation, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(model.bias + model.weights @ mean, dtype=torch.float64, requires_grad=True)
    truth, each = torch.from_numpy(labels // 4).long(), torch.from_numpy(weights)
    penalty = own.square().sum() / 2 if count > 2 else (own[1] - own[0]).square().sum() / 2
    loss = 0.5 * (each * cross_entropy(scaled @ own.T + bias, truth, reduction="none")).sum() + penalty
    gradients = torch.autograd.grad(loss, (own, bias))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 0.05
    logits = np.stack(list(model.logits(features.T[:, :, None, None]).values()))[:, :, 0, 0]
    np.testing.assert_allclose(logits, (features @ model.weights.T + model.bias).T, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_probed_is_named_before_anything_is_trained(featlift, cohort):
    folder = cohort()
    good = (folder / "splits.csv").read_text()

    def refuses(*says, splits=good, options=()):
        (folder / "splits.csv").write_text(splits)
        done = featlift(*PROBE, *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert all(word in done.stderr for word in says), done.stderr
        assert not (folder / "results").exists()

    refuses("'test'", splits="id,split\na,train\n")
    refuses("split", splits="id,label\na,1\n")
    refuses("no case", splits=good + "z,test\n")
    refuses("layer 7", "0", options=("--layer", "7"))
    refuses("weighting", options=("--weighting", "voxels"))
    refuses("seeds", options=("--seeds", "one"))
    refuses("do not belong to --dense", options=("--protocol", "logistic"))
    for wrong in (("--masks", "labels"), ("--layer", "0")):
        done = featlift("probe", "features.zarr", *wrong)
        assert (done.returncode, "belong to --dense" in done.stderr) == (2, True)
    assert "give --masks" in featlift("probe", "features.zarr", "--dense").stderr
    masks = {name: labels_of(name) for name in "de"}
    mask = folder / "labels/e.nii.gz"
    write_nifti(mask, np.zeros(SHAPE, np.uint8))
    refuses("e: not a mask: it is empty")
    away = OBLIQUE.copy()
    away[:3, 3] += 500
    write_nifti(mask, masks["e"], away)
    refuses("e: ", "does not overlap")
    masks["e"][0, 0, 0] = 9
    write_nifti(mask, masks["e"])
    refuses("label 9 of e")
    mask.unlink()
    refuses("e of the split 'test' has no mask")

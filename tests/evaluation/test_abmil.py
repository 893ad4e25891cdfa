"""Attention over bags: against the golden numbers, on tasks that one instance decides, and what it writes down."""

from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch

from featlift.errors import OptionError
from featlift.evaluation import BagProbe, Probe, probe, read_labels, read_result
from featlift.evaluation.classification.bags import Bags, check_memory
from featlift.evaluation.classification.gated import BagHeads
from featlift.evaluation.classification.multi_seed import ProbeTraining, loss_of, train
from tests.conftest import GOLDEN
from tests.support.planted import AFFINE
from tests.support.stores import clouds, splits_of, write_cells, write_labels, write_store

NAMES = {
    "projection": "projection.weight",
    "projection_bias": "projection.bias",
    "V": "V",
    "U": "U",
    "w": "w",
    "weight": "head.weight",
    "bias": "head.bias",
}


@pytest.fixture(scope="module")
def abmil():
    return {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(GOLDEN / "abmil.npz").items()}


def golden_heads(abmil, prefix=""):
    w = abmil[f"{prefix}w"]
    parameters = {name: abmil[theirs].clone()[None] for name, theirs in NAMES.items()}
    return BagHeads(parameters | {"w": w.reshape(1, len(w), -1).clone()})


@pytest.mark.parametrize("prefix", ["", "classes/"])
def test_golden(abmil, prefix):
    """Attention, bags, outputs, loss and gradients, with rubbish in the padding."""
    heads = golden_heads(abmil, prefix)
    for value in heads.parameters.values():
        value.requires_grad_()
    bags, mask = abmil["embeddings"][None], abmil["mask"][None]
    outputs = heads(bags, mask)
    loss = loss_of(outputs, abmil[f"{prefix}labels"][None], "binary cross entropy" if prefix else "cross entropy")
    loss.backward()
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    close(outputs[0], abmil[f"{prefix}logits"])
    close(loss, abmil[f"{prefix}loss"].float())
    if not prefix:
        close(heads.pooled(bags, mask)[0][0, :, 0], abmil["bag"])
    for name, theirs in NAMES.items():
        if f"{prefix}grad/{theirs}" in abmil:
            expected = abmil[f"{prefix}grad/{theirs}"]
            close(heads.parameters[name].grad.view(expected.shape), expected)
    for row in range(len(mask[0])):
        own = abmil["mask"][row]
        found = heads.explained([abmil["embeddings"][row][own]])
        attention, scores = abmil[f"{prefix}attention"][row], abmil[f"{prefix}scores"][row]
        close(found.attention, attention[own].view(own.sum(), -1))
        close(found.scores, scores[own].view(own.sum(), -1))
        # the outputs of a bag are the mean of its instances' by these weights
        close((found.attention * found.logits).sum(dim=0), abmil[f"{prefix}logits"][row])


@pytest.mark.parametrize("pooling", ["attention", "mean", "max"])
def test_order_padding_and_blocks_change_nothing(pooling):
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    heads = BagHeads.start(6, 3, 1, BagProbe(pooling=pooling, hidden=5, gate=4), generators)
    bag = torch.randn(9, 6, generator=generators[0])
    outputs = heads(bag[None], torch.ones(1, 9, dtype=torch.bool))
    padded = torch.cat([bag.flip(0), torch.full((4, 6), 1e4)])
    mask = torch.arange(13) < 9
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    close(heads(padded[None], mask[None]), outputs)
    close(heads(padded.expand(2, 1, 13, 6), mask.expand(2, 1, 13)), outputs)
    close(heads.joined(bag.split([2, 6, 1])), outputs)
    h = bag @ heads.parameters["projection"][1].T + heads.parameters["projection_bias"][1]
    if pooling != "attention":
        z = h.mean(dim=0) if pooling == "mean" else h.amax(dim=0)
        close(outputs[1, 0], heads.parameters["weight"][1] @ z + heads.parameters["bias"][1])


def test_seeds_together_are_seeds_alone():
    """Also where each draws instances of its own."""
    generator = torch.Generator().manual_seed(0)
    counts = np.array([3, 20, 7, 12, 5, 9, 16, 4])
    starts = np.cumsum(counts) - counts
    bags = Bags(torch.randn(counts.sum(), 6, generator=generator).half(), starts, counts, 6)
    make = partial(BagHeads.start, 6, 2, 1, BagProbe(hidden=8, gate=4))
    training = ProbeTraining("cross entropy", 1e-2, 1e-4, 3, 30, "cosine")
    labels = torch.arange(8) % 2
    together = bags.scored(train(make, bags, labels, training, [3, 1]))
    for number, seed in enumerate([3, 1]):
        alone = bags.scored(train(make, bags, labels, training, [seed]))
        torch.testing.assert_close(together[number], alone[0], rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)
    drawn = [bags._draw(1, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert len(set(drawn[0].tolist())) == 6
    assert set(drawn[0].tolist()) <= set(range(3, 23))
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()


def test_features_are_standardised_by_the_training_cases():
    """Mean 0 and deviation 1 there, the same shift elsewhere; a channel that never changes stays finite."""
    values = np.random.default_rng(0).normal(3, [1, 20, 0], size=(9000, 3)).astype(np.float16)
    counts = np.array([5000, 3000, 1000])
    bags = Bags(torch.from_numpy(values.copy()), np.cumsum(counts) - counts, counts, 10)
    bags.standardise(np.array([0, 2]))
    known = np.r_[0:5000, 8000:9000]
    deviation = np.where(np.arange(3) < 2, values[known].astype(float).std(axis=0), 1)
    expected = (values - values[known].astype(float).mean(axis=0)) / deviation
    np.testing.assert_allclose(bags.instances.numpy(), expected, atol=2e-3)


def needles(shape, signs, seed=0):
    """Instances ``(*shape, 8)`` of noise, and for each sign a place marked in one channel that has it in another.

    Elsewhere that channel is as large, of either sign: the mean tells little, and only the marked place tells all.
    """
    rng = np.random.default_rng(seed)
    bag = rng.normal(size=(*shape, 8))
    places = [np.unravel_index(at, shape) for at in rng.choice(np.prod(shape), len(signs), replace=False)]
    for finding, (place, sign) in enumerate(zip(places, signs, strict=True)):
        bag[..., 4 + finding] *= 3
        bag[(*place, finding)] = 10
        bag[(*place, 4 + finding)] = 3 * sign
    return bag.astype(np.float32), places


def found_in_a_class(hits):
    """The share of the places that attention was highest at, by class: the higher of the two.

    It can tell two classes apart by finding the places of one of them, and nothing in particular in the other.
    """
    return max(np.mean([hit for label, hit in hits if label == one]) for one in "01")


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Class tokens of cases of 10 to 14 slices, one of which decides, with a CSV."""
    folder = tmp_path_factory.mktemp("slices")
    labels = {f"case{number:03d}": number % 2 for number in range(96)}
    made = {
        case_id: needles((14 + number % 5,), [2 * label - 1], number)
        for number, (case_id, label) in enumerate(labels.items())
    }
    csv = write_labels(folder / "l.csv", labels, splits_of(labels))
    places = {case_id: places[0][0] for case_id, (_, places) in made.items()}
    return write_store(folder / "a.zarr", {case_id: bag for case_id, (bag, _) in made.items()}), csv, places


def test_one_slice_decides(slices, featlift, tmp_path):
    """By the command: attention finds it, the mean cannot, and the maps show where it was."""
    store, csv, places = slices
    command = ["probe", store.path, "--labels", csv, "--protocol", "abmil", "--seeds", "0,1", "--iterations", "400"]
    command += ["--resamples", "20"]
    done = featlift(*command, "--attention", "maps")
    assert done.returncode == 0, done.stderr
    assert "Probe abmil on cls; mean ± standard deviation of 2 seeds" in done.stdout
    found = read_result(tmp_path / "results/a-probe-abmil-cls-label.json")
    assert found.measures["auc"].mean > 0.95
    assert {"bag": "slices", "pooling": "attention", "hidden": 128, "gate": 64}.items() <= found.protocol.items()
    assert found.protocol["layer"] == 0
    assert featlift(*command, "--pooling", "mean").returncode == 0
    mean = read_result(tmp_path / "results/a-probe-abmil-mean-cls-label.json")
    assert mean.measures["auc"].mean < 0.75
    hits = []
    folder = tmp_path / "maps" / found.name
    assert len(list(folder.iterdir())) == 3 * len(found.cases)
    for case in found.cases:
        attention, scores, logits = (
            nib.load(folder / f"{case['id']}_{name}.nii.gz").get_fdata().T for name in ("attention", "scores", "logits")
        )
        assert attention.shape == store[case["id"]].valid_cells
        assert attention.sum() == pytest.approx(1, abs=1e-5)  # cells are 1 x 1 here
        np.testing.assert_allclose(np.exp(scores) / np.exp(scores).sum(), attention, atol=1e-5)
        hits.append((case["label"], attention.argmax() == places[case["id"]]))
        # log-odds of the bag are their mean, by attention
        (_, positive), _ = case["probabilities"]
        assert 1 / (1 + np.exp(-(attention * logits).sum())) == pytest.approx(positive, abs=1e-5)
    assert found_in_a_class(hits) > 0.8


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Dense features of cases one cell of which decides, with a CSV."""
    folder = tmp_path_factory.mktemp("cells")
    labels = {f"case{number:03d}": number % 2 for number in range(96)}
    made = {
        case_id: needles((3 + number % 2, 3, 4), [2 * label - 1], number)
        for number, (case_id, label) in enumerate(labels.items())
    }
    store = write_cells(
        folder / "a.zarr", {case_id: np.moveaxis(bag, -1, 0) for case_id, (bag, _) in made.items()}, AFFINE
    )
    csv = write_labels(folder / "l.csv", labels, splits_of(labels))
    return store, csv, {case_id: places[0] for case_id, (_, places) in made.items()}


@pytest.mark.parametrize("bag", ["patches", "both"])
def test_one_cell_decides(cells, tmp_path, bag):
    store, csv, places = cells
    tasks = read_labels(store, csv)
    areas = {}
    for pooling in ("attention", "mean"):
        how = Probe("abmil", seeds=(0,), iterations=400, resamples=5, bags=BagProbe(bag, pooling, instances=30))
        (result,) = probe(store, tasks, how, attention=tmp_path if pooling == "attention" else None)
        areas[pooling] = result.measures["auc"].mean
        assert result.protocol["input"] == ("patches" if bag == "patches" else "cls+patches")
    assert areas["attention"] > 0.95
    assert areas["mean"] < 0.75
    folder = tmp_path / result.name.replace("abmil-mean", "abmil")
    hits = []
    for case in result.cases:
        parts = [folder] if bag == "patches" else [folder / "patches", folder / "slices"]
        images = [nib.load(part / f"{case['id']}_attention.nii.gz") for part in parts]
        attention = images[0].get_fdata().T
        assert attention.shape == store[case["id"]].valid_cells
        total = attention.sum() + (0 if bag == "patches" else images[1].get_fdata().T[:, 0, 0].sum())
        assert total == pytest.approx(1, abs=1e-5)  # padded cells take no part
        place = np.unravel_index(attention.argmax(), attention.shape)
        hits.append((case["label"], tuple(place) == tuple(places[case["id"]])))
        middle = np.array([place[0], 4 * place[1] + 1.5, 4 * place[2] + 1.5, 1])  # the cell's among the voxels
        np.testing.assert_allclose(images[0].affine @ [*place[::-1], 1], [-1, -1, 1, 1] * (AFFINE @ middle), atol=1e-4)
    assert found_in_a_class(hits) > 0.8


def test_findings_have_an_attention_each(tmp_path, featlift):
    """Two findings, each in a slice of its own, of which some are not known: trained in one, each looks elsewhere."""
    rng = np.random.default_rng(0)
    truth = {f"case{number:03d}": rng.integers(0, 2, 2) for number in range(96)}
    made = {
        case_id: needles((8 + number % 4,), 2 * both - 1, number)
        for number, (case_id, both) in enumerate(truth.items())
    }
    store = write_store(tmp_path / "a.zarr", {case_id: bag for case_id, (bag, _) in made.items()})
    lines = ["id,split,nodule,effusion"]
    for (case_id, split), (nodule, effusion) in zip(splits_of(truth).items(), truth.values(), strict=True):
        lines.append(f"{case_id},{split},{nodule},{'' if case_id.endswith('7') else effusion}")
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    how = Probe("abmil", seeds=(0, 1), iterations=500, resamples=5)
    *results, mean = probe(store, read_labels(store, tmp_path / "l.csv"), how, attention=tmp_path / "maps")
    assert mean.measures["auc"].mean > 0.95
    for column, result in enumerate(results):
        assert result.protocol["findings"] == ["nodule", "effusion"]
        assert all(case["id"][-1] != "7" for case in result.cases) == (result.task == "effusion")
        folder = tmp_path / "maps" / result.name
        hits = []
        for case in result.cases:
            attention = nib.load(folder / f"{case['id']}_attention.nii.gz").get_fdata().ravel()
            hits.append((case["label"], attention.argmax() == made[case["id"]][1][column][0]))
        assert found_in_a_class(hits) > 0.8


WRONG_CALLS = {
    "pooling of another": (["--protocol", "planecycle", "--pooling", "max"], "belong to --protocol abmil"),
    "attention of another": (["--protocol", "logistic", "--attention", "maps"], "belong to --protocol abmil"),
    "layer of another": (["--protocol", "logistic", "--layer", "0"], "--layer (of abmil too)"),
    "attention of the mean": (["--pooling", "mean", "--attention", "maps"], "pooling mean has none"),
    "no such layer": (["--layer", "9"], "layer 9: "),
    "input of cells": (["--bag", "patches", "--input", "cls"], "takes none"),
    "voxels": (["--input", "voxels"], "no bag"),
    "slices twice as long as cells": (["--bag", "both", "--input", "cls+patch-mean"], "has 16 channels and a cell 8"),
    "no split": (["--labels", "without.csv"], "add one that says train, val, test"),
    "a class that val lacks": (["--labels", "lacking.csv"], "class 1 of label does not occur in the split val"),
    "dense": (["--protocol", "planecycle", "--dense", "--bag", "slices"], "not to --dense"),
}


def test_wrong_calls(slices, featlift, tmp_path):
    store, csv, _ = slices
    labels = {case_id: number % 2 for number, case_id in enumerate(store)}
    write_labels(tmp_path / "without.csv", labels)
    splits = splits_of(labels)
    labels |= {case_id: 0 for case_id, split in splits.items() if split == "val"}
    write_labels(tmp_path / "lacking.csv", labels, splits)
    for kind, (wrong, says) in WRONG_CALLS.items():
        done = featlift("probe", store.path, "--labels", csv, "--protocol", "abmil", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (kind, done.stderr)
        assert says in done.stderr, (kind, done.stderr)
    assert not (tmp_path / "results").exists()
    for wrong in ({"bag": "voxels"}, {"pooling": "sum"}, {"instances": 0}):
        with pytest.raises(OptionError):
            BagProbe(**wrong)
    with pytest.raises(OptionError, match=r"the bags of 9 cases are .* of memory are free"):
        check_memory(1 << 60, 9, BagProbe("patches"))
    with pytest.raises(OptionError, match="bag: of protocol abmil"):
        Probe("logistic", bags=BagProbe("patches"))


def test_stores_that_make_no_such_bags(featlift, tmp_path):
    cases, labels = clouds(18, classes=3)
    write_labels(tmp_path / "l.csv", labels, splits_of(labels, 3))
    write_store(tmp_path / "flat.zarr", cases, mode="3d")
    write_store(tmp_path / "small.zarr", cases, save=["tokens", "slice_mean", "embedding", "scan"])
    lines = (tmp_path / "l.csv").read_text().splitlines()
    two = ["id,label,split,other", *(f"{line},{number % 2}" for number, line in enumerate(lines[1:]))]
    (tmp_path / "two.csv").write_text("\n".join(two) + "\n")
    for name, more, says in (
        ("flat", [], "one class token, not one a slice"),
        ("small", ["--bag", "patches"], "keeps no dense"),
        ("flat", ["--labels", "two.csv", "--label", "label,other"], "label has more classes: predict it alone"),
    ):
        done = featlift("probe", f"{name}.zarr", "--labels", "l.csv", "--protocol", "abmil", *more)
        assert done.returncode == 2 or done.returncode == 1, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert says in done.stderr, done.stderr

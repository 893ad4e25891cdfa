"""Probes against the same in plain torch and scikit-learn, and seeds trained together against seeds trained alone."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from featlift.errors import OptionError
from featlift.evaluation import Probe, classification_measures, predictions_of, probe, read_labels, read_result
from featlift.evaluation.classification.embeddings import pooled
from featlift.evaluation.classification.linear import LinearHeads, SliceVectors
from featlift.evaluation.classification.logistic import CS
from featlift.evaluation.classification.multi_seed import ProbeTraining, train
from featlift.evaluation.classification.selection import train_and_select
from featlift.metrics.classification_bootstrap import mean_areas
from tests.support.stores import clouds, splits_of, write_labels, write_store

TRAINING = ProbeTraining("cross entropy", 1e-2, 1e-2, 16, 60, "cosine")


def data(count=50, depth=4, channels=6, classes=3):
    cases, labels = clouds(count, classes, depth, channels, spread=4.0)
    return torch.from_numpy(np.stack(list(cases.values()))), torch.tensor(list(labels.values()))


def trained(vectors, targets, outputs, *rest):
    return train(partial(LinearHeads, *vectors.shape[1:], outputs), SliceVectors(vectors), targets, *rest)


class Plain(nn.Module):
    """The released head as its training script has it: a linear layer over the slices, then one over the channels."""

    def __init__(self, depth, channels, outputs):
        super().__init__()
        self.pool, self.linear = nn.Linear(depth, 1), nn.Linear(channels, outputs)

    def forward(self, vectors):
        return self.linear(self.pool(vectors.transpose(1, 2)).squeeze(-1))


def test_a_training_is_the_plain_one():
    """Modules, optimiser, schedules and loss of torch; only the start and the order of the cases are ours."""
    vectors, labels = data()
    heads = trained(vectors, labels, 3, TRAINING, [7])
    generator = torch.Generator().manual_seed(7)
    plain, start = Plain(4, 6, 3), LinearHeads(4, 6, 3, [generator]).parameters
    with torch.no_grad():
        plain.linear.weight.copy_(start["weight"][0].T)
        plain.linear.bias.copy_(start["bias"][0])
        plain.pool.weight.copy_(start["pool"])
        plain.pool.bias.copy_(start["pool_bias"][0])
    optimiser = torch.optim.AdamW(plain.parameters(), 1e-2, weight_decay=1e-2)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimiser, 1e-3, 1.0, total_iters=3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 57, eta_min=1e-6)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimiser, [warm_up, cosine], [3])
    step = 0
    while step < 60:
        for rows in torch.randperm(50, generator=generator).split(16)[: 60 - step]:
            assert optimiser.param_groups[0]["lr"] == pytest.approx(TRAINING.rate(step), rel=1e-9)
            optimiser.zero_grad()
            nn.functional.cross_entropy(plain(vectors[rows]), labels[rows]).backward()
            optimiser.step()
            schedule.step()
            step += 1
    np.testing.assert_allclose(heads(vectors)[0].numpy(), plain(vectors).detach().numpy(), atol=2e-4)


@pytest.mark.parametrize("depth", [1, 5])
def test_seeds_together_are_seeds_alone(depth):
    vectors, labels = data(depth=depth)
    together = trained(vectors, labels, 3, TRAINING, [3, 1, 4])
    outputs = together(vectors)
    for number, seed in enumerate([3, 1, 4]):
        alone = trained(vectors, labels, 3, TRAINING, [seed])
        np.testing.assert_allclose(outputs[number].numpy(), alone(vectors)[0].numpy(), atol=1e-4)
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-2)
    own = vectors.expand(3, *vectors.shape)
    np.testing.assert_allclose(together(own).numpy(), outputs.numpy(), atol=1e-5)


def test_heads_start_as_torchs_linear_layers():
    generators = [torch.Generator().manual_seed(seed) for seed in range(50)]
    ours = LinearHeads(9, 25, 4, generators).parameters
    torch.manual_seed(0)
    for name, inputs in {"weight": 25, "bias": 25, "pool": 9, "pool_bias": 9}.items():
        layer = nn.Linear(inputs, 4000)
        assert ours[name].abs().max() <= layer.weight.abs().max() + 1e-3
        assert ours[name].std().item() == pytest.approx(layer.weight.std().item(), rel=0.15)
        assert ours[name].mean().item() == pytest.approx(0, abs=0.05)


def test_unknown_findings_take_no_part():
    """Their loss is that of the known ones alone: a case of which nothing is known changes nothing."""
    vectors = torch.randn(8, 1, 5)
    findings = (torch.rand(8, 2) > 0.5).float()
    findings[0] = torch.nan
    findings[1, 0] = torch.nan
    training = ProbeTraining("binary cross entropy", 0.05, 0.0, 8, 20, "constant")
    found = trained(vectors, findings, 2, training, [0]).parameters
    moved = vectors.clone()
    moved[0] = 100
    again = trained(moved, findings, 2, training, [0]).parameters
    np.testing.assert_allclose(again["weight"].numpy(), found["weight"].numpy(), atol=1e-5)
    moved[2] = 1
    assert not torch.allclose(
        trained(moved, findings, 2, training, [0]).parameters["weight"], found["weight"], atol=1e-3
    )


def test_the_latest_of_the_best_epochs_is_kept(monkeypatch):
    """Every epoch's heads again, their validation AUC by scikit-learn, and the choice by hand."""
    vectors, labels = data(60, classes=2)
    parts = [np.arange(0, 30), np.arange(30, 42), np.arange(42, 60)]
    training = ProbeTraining("cross entropy", 0.5, 0.0, 8, 42, "constant")
    epochs = []
    trained(
        vectors[parts[0]],
        labels[parts[0]],
        2,
        training,
        [5, 6],
        lambda heads, step: epochs.append((step, heads.copy())),
    )
    assert [step for step, _ in epochs] == [*range(4, 43, 4), 42]
    found = train_and_select(
        partial(LinearHeads, 4, 6, 2), SliceVectors(vectors), labels.numpy(), parts, training, [5, 6]
    )
    heads = LinearHeads(4, 6, 2, [torch.Generator()])
    for seed in range(2):
        areas = []
        for _, state in epochs:
            heads.parameters = {name: value[seed : seed + 1] for name, value in state.items()}
            probabilities = heads(vectors[parts[1]])[0].double().softmax(dim=-1).numpy()
            areas.append(classification_measures(labels[parts[1]].numpy(), probabilities)["auc"])
        best = len(areas) - 1 - int(np.argmax(areas[::-1]))
        assert found.iterations[seed] == epochs[best][0]
        assert found.areas[seed] == pytest.approx(max(areas))
        heads.parameters = {name: value[seed : seed + 1] for name, value in epochs[best][1].items()}
        tested = heads(vectors[parts[2]])[0].double().softmax(dim=-1).numpy()
        np.testing.assert_allclose(found.probabilities[seed], tested, atol=1e-5)


def test_validation_auc_is_that_of_the_results():
    rng = np.random.default_rng(0)
    for classes in (2, 4):
        labels = np.arange(40) % classes
        probabilities = np.round(rng.dirichlet(np.ones(classes), (3, 40)), 1)
        expected = [classification_measures(labels, each)["auc"] for each in probabilities]
        np.testing.assert_allclose(mean_areas(labels, probabilities), expected, atol=1e-12)


def test_other_depths_are_brought_to_the_common_one():
    ramp = np.arange(6, dtype=np.float32)[:, None] * [[1, 10]]
    short, long = pooled([ramp[:3].astype(np.float32), ramp.astype(np.float32)], 4)
    np.testing.assert_allclose(short[:, 0], [0, 0.5, 1.5, 2])
    np.testing.assert_allclose(long[:, 1], [5, 15, 35, 45])
    assert pooled([ramp.astype(np.float32)], 6)[0].base is not ramp


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Class tokens of three classes, of depths that differ, with a CSV."""
    folder = tmp_path_factory.mktemp("cohort")
    cases, labels = clouds(72, classes=3, spread=3.0)
    cases = {case_id: tokens[: 2 + number % 2] for number, (case_id, tokens) in enumerate(cases.items())}
    return write_store(folder / "a.zarr", cases), write_labels(folder / "l.csv", labels, splits_of(labels, 3))


def test_logistic_is_scikit_learns(cohort):
    """With C chosen by a loop over the validation AUC."""
    store, csv = cohort
    (task,) = read_labels(store, csv)
    (result,) = probe(store, [task], Probe("logistic", resamples=20))
    vectors = np.stack([store[case_id].embedding[:6] for case_id in task.ids])
    trained, validated, tested = task.of("train", "val", "test")
    scaler = StandardScaler().fit(vectors[trained])
    areas = {}
    for c in CS:
        model = LogisticRegression(C=c, max_iter=1000).fit(scaler.transform(vectors[trained]), task.labels[trained])
        chosen = model.predict_proba(scaler.transform(vectors[validated]))
        areas[c] = (classification_measures(task.labels[validated], chosen)["auc"], -c, copy.copy(model))
    best = max(areas.values(), key=lambda found: found[:2])
    assert result.details["c"] == -best[1]
    truth, probabilities = predictions_of(result)
    np.testing.assert_array_equal(truth, task.labels[tested])
    np.testing.assert_allclose(probabilities[0], best[2].predict_proba(scaler.transform(vectors[tested])), atol=1e-5)
    assert (result.seeds, result.measures["auc"].sd, result.measures["auc"].by_seed) == ([], None, None)


def test_the_command(cohort, featlift, tmp_path):
    store, csv = cohort
    command = ["probe", store.path, "--labels", csv, "--iterations", "80", "--seeds", "0,1,2", "--resamples", "50"]
    done = featlift(*command)
    assert done.returncode == 0, done.stderr
    assert "mean ± standard deviation of 3 seeds" in done.stdout
    result = read_result(tmp_path / "results/a-probe-planecycle-cls-label.json")
    assert (result.seeds, result.protocol["depth"], result.protocol["warm_up"]) == ([0, 1, 2], 2, 4)
    truth, probabilities = predictions_of(result)
    assert probabilities.shape == (3, 24, 3)
    areas = [classification_measures(truth, each)["auc"] for each in probabilities]
    measure = result.measures["auc"]
    assert measure.by_seed == areas
    assert (measure.mean, measure.sd) == pytest.approx((np.mean(areas), np.std(areas, ddof=1)))
    assert measure.low <= measure.mean <= measure.high
    assert measure.mean > 0.7
    again = featlift(*command)
    assert again.stdout == done.stdout


def test_a_backbone_without_class_tokens(featlift, tmp_path):
    cases, labels = clouds(36)
    plain = {case_id: (None, tokens) for case_id, tokens in cases.items()}
    flat = {case_id: tokens[:1] for case_id, tokens in cases.items()}
    write_labels(tmp_path / "l.csv", labels, splits_of(labels))
    for name, made, depth in (("plain", plain, 3), ("flat", flat, 1)):
        write_store(tmp_path / f"{name}.zarr", made)
        done = featlift("probe", f"{name}.zarr", "--labels", "l.csv", "--iterations", "40", "--resamples", "20")
        assert done.returncode == 0, done.stderr
        given = "patch-mean" if name == "plain" else "cls"
        result = read_result(tmp_path / f"results/{name}-probe-planecycle-{given}-label.json")
        assert (result.protocol["input"], result.protocol["depth"]) == (given, depth)
        assert f"Probe planecycle on {given}" in done.stdout


def test_findings_are_trained_in_one(featlift, tmp_path):
    """Two findings, each a direction of its own; of some cases one is not known."""
    rng = np.random.default_rng(0)
    findings = rng.integers(0, 2, (80, 2))
    tokens = np.repeat((2.0 * findings - 1)[:, None], 2, axis=1) + rng.normal(scale=0.6, size=(80, 2, 2))
    cases = {f"case{number:03d}": values.astype(np.float32) for number, values in enumerate(tokens)}
    write_store(tmp_path / "a.zarr", cases)
    lines = ["id,split,nodule,effusion"]
    for (case_id, split), (nodule, effusion) in zip(splits_of(cases).items(), findings, strict=True):
        lines.append(f"{case_id},{split},{nodule},{'' if case_id.endswith('7') else effusion}")
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    command = ["probe", "a.zarr", "--labels", "l.csv", "--protocol", "ct-rate", "--resamples", "20"]
    done = featlift(*command)
    assert done.returncode == 0, done.stderr
    for name in ("nodule", "effusion"):
        result = read_result(tmp_path / f"results/a-probe-ct-rate-cls-{name}.json")
        assert result.protocol["findings"] == ["nodule", "effusion"]
        assert (result.protocol["iterations"], result.protocol["batch"]) == (50, 1024)
        assert len(result.seeds) == 5
        assert all(case["id"][-1] != "7" for case in result.cases) == (name == "effusion")
    done = featlift(*command, "--iterations", "800")
    for name in ("nodule", "effusion"):
        assert read_result(tmp_path / f"results/a-probe-ct-rate-cls-{name}.json").measures["auc"].mean > 0.95


def test_ct_rate_is_the_plain_one(tmp_path):
    """One linear layer, BCE, torch's AdamW at 0.005, 50 epochs: in torch's own modules, on features as they are."""
    rng = np.random.default_rng(0)
    findings = rng.integers(0, 2, (60, 3))
    tokens = (findings - 0.5)[:, None] @ rng.normal(size=(3, 5)) + rng.normal(size=(60, 2, 5))
    cases = {f"case{number:03d}": values.astype(np.float32) for number, values in enumerate(tokens)}
    store = write_store(tmp_path / "a.zarr", cases)
    splits = splits_of(cases)
    lines = [
        f"{case_id},{splits[case_id]},{','.join(map(str, row))}" for case_id, row in zip(cases, findings, strict=True)
    ]
    (tmp_path / "l.csv").write_text("\n".join(["id,split,one,two,three", *lines]) + "\n")
    results = list(probe(store, read_labels(store, tmp_path / "l.csv"), Probe("ct-rate", seeds=(4,), resamples=5)))

    vectors = torch.from_numpy(np.stack([store[case_id].embedding[:5] for case_id in cases]))
    trained, tested = (np.array([split == part for split in splits.values()]) for part in ("train", "test"))
    targets = torch.from_numpy(findings[trained]).float()
    layer, start = nn.Linear(5, 3), LinearHeads(1, 5, 3, [torch.Generator().manual_seed(4)]).parameters
    with torch.no_grad():
        layer.weight.copy_(start["weight"][0].T)
        layer.bias.copy_(start["bias"][0])
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.005)
    for _ in range(50):  # all of them are fewer than a batch
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(layer(vectors[trained]), targets).backward()
        optimiser.step()
    expected = layer(vectors[tested]).sigmoid().detach().numpy()
    for column, result in enumerate(results[:3]):
        np.testing.assert_allclose(predictions_of(result)[1][0, :, 1], expected[:, column], atol=1e-5)
    assert results[3].protocol["learning_rate"] == 0.005


WRONG_CALLS = {
    "other protocol": (["--protocol", "linear"], "choose one of planecycle, logistic, ct-rate, abmil"),
    "seeds twice": (["--seeds", "1,1"], "none twice"),
    "no seeds": (["--seeds", ""], "at least one"),
    "iterations of logistic": (["--protocol", "logistic", "--iterations", "9"], "logistic has none"),
    "more than two classes": (["--protocol", "ct-rate"], "yes or no, and label has more classes"),
    "no split": (["--labels", "without.csv"], "add one that says train, val, test"),
}


def test_wrong_calls(cohort, featlift, tmp_path):
    store, csv = cohort
    write_labels(tmp_path / "without.csv", {case_id: number % 2 for number, case_id in enumerate(store)})
    for kind, (wrong, says) in WRONG_CALLS.items():
        done = featlift("probe", store.path, "--labels", csv, *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), kind
        assert says in done.stderr, kind
    assert not (tmp_path / "results").exists()
    with pytest.raises(OptionError, match="choose"):
        Probe("knn")

"""Heads trained on real stores: what they learn, how they stop, go on and are kept."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from featlift import find_masks, open_store
from featlift.errors import OptionError, StoreError
from featlift.segmentation import Plan, Split, cross_validate, folds_of, open_trained, read_head, split_of, train_head
from featlift.segmentation.data.patches import Patches, collated
from featlift.segmentation.data.survey import survey
from featlift.segmentation.inference.windows import logits_of
from featlift.segmentation.loss import dice_and_cross_entropy, mean_dice
from featlift.segmentation.task import HeadTask
from featlift.segmentation.training import course_of
from featlift.staging import this_process
from featlift.training.checkpoint import CHECKPOINT
from featlift.training.trainer import Trainer
from featlift.volumes.regions import Box
from tests.segmentation.conftest import SPLITS

SPLIT = Split(["a", "b", "c"], ["d"], ["e", "f"])
FILES = ["config.json", "curves.csv", "curves.svg", "weights.safetensors"]
CPU = torch.device("cpu")
LEARNING = {
    "linear": {"epochs": 40, "rate": 0.1, "batch": 1},
    "decoder": {"epochs": 25, "options": {"width": 8}, "rate": 1e-2, "batch": 1},
    "subcube": {"epochs": 20, "options": {"width": 8, "window": (6, 6, 6)}, "rate": 1e-2, "batch": 1},
    "dino3dra": {"epochs": 6, "rate": 2e-3, "batch": 1},
}


def material_of(cohort, plan, split=SPLIT):
    store = open_store(cohort / "features.zarr")
    return survey(store, find_masks(store, cohort / "labels"), split, plan)


def train(cohort, folder, plan, split=SPLIT, **how):
    store = open_store(cohort / "features.zarr")
    return train_head(store, find_masks(store, cohort / "labels"), split, plan, folder, precision="fp32", **how)


@pytest.mark.parametrize("head", LEARNING)
def test_every_head_learns_what_brightness_tells(cohort, tmp_path, head):
    config = train(cohort, tmp_path / "head", Plan(head, **LEARNING[head]))
    assert config.training["dice"] > 0.7  # cells are blocks of voxels: not all can be right
    assert config.labels == {"0": "background", "1": "1", "2": "2"}
    assert (config.train, config.val, config.step) == (["a", "b", "c"], ["d"], 2)
    rows = list(csv.DictReader((tmp_path / "head/curves.csv").open()))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert max(float(row["dice"]) for row in rows) == config.training["dice"]
    assert sorted(path.name for path in (tmp_path / "head").iterdir()) == FILES
    again, _ = read_head(tmp_path / "head")
    assert not again.training


def test_gaussian_features_of_the_same_grid_teach_nothing(cohort, tmp_path):
    config = train(cohort, tmp_path / "head", Plan("linear", features="random", epochs=15))
    assert config.training["dice"] < 0.3


def test_a_patch_is_where_a_class_is_and_each_class_is_as_likely(cohort):
    material = material_of(cohort, Plan("linear"))
    patches = Patches(material, 4, seed=0, noise=0.0)
    shares = []
    for epoch in range(30):
        patches.epoch = epoch
        for index in range(len(patches)):
            batch = patches[index]
            assert batch.features.shape[2:] == (4, 2, 2)
            assert batch.labels.shape[1:] == (4, 4, 4)
            shares.append([(batch.labels == number).any().item() for number in range(3)])
    held = np.mean(shares, axis=0)  # each was drawn in a third of the patches; others are there by chance
    assert (held > 0.3).all()
    first = patches[0]
    patches.epoch -= 1
    assert not torch.equal(patches[0].labels, first.labels) or not torch.equal(patches[0].features, first.features)
    patches.epoch += 1
    assert torch.equal(patches[0].features, first.features)


def test_patches_of_different_sizes_are_one_batch_without_labels_where_one_ends(cohort):
    material = material_of(cohort, Plan("dino3dra"))
    reader = material.reader
    frame = reader.frame(reader.store["a"])
    whole = Patches(material, None, seed=0, noise=0.0)[0]
    part = reader.read("a", Box((0, 0, 0), (7, *frame.cells[1:])))
    part = type(part)(part.depth, part.features, part.slices, part.scan, whole.labels[:, :7])
    batch = collated([whole, part])
    assert batch.scan.shape[0] == batch.labels.shape[0] == 2
    assert (batch.labels[1, 7:] == -1).all()
    assert (batch.labels[1, :7] == whole.labels[0, :7]).all()
    assert torch.equal(batch.scan[1, :, -1], batch.scan[1, :, 6])
    assert (batch.depth[1, 6:] == batch.depth[1, 6]).all()


def test_the_loss_leaves_out_what_is_beyond_the_scan_and_is_zero_for_the_truth():
    classes = torch.randint(0, 3, (1, 4, 5, 6))
    truth = torch.nn.functional.one_hot(classes, 3).permute(0, 4, 1, 2, 3).float() * 60
    assert float(dice_and_cross_entropy(truth, classes)) == pytest.approx(0, abs=1e-4)
    wrong = truth.clone()
    wrong[:, :, 0] = -wrong[:, :, 0]
    beyond = classes.clone()
    beyond[:, 0] = -1
    assert float(dice_and_cross_entropy(wrong, beyond)) == pytest.approx(0, abs=1e-4)
    assert float(dice_and_cross_entropy(wrong, classes)) > 1
    assert mean_dice(wrong.argmax(dim=1).numpy(), beyond.numpy()) == 1


@pytest.mark.parametrize("patch", [None, 4, 12])
def test_windows_that_are_blended_give_what_one_piece_gives(cohort, patch):
    """With a head that looks at one cell at a time there is nothing to lose at the edge of a window."""
    material = material_of(cohort, Plan("linear", step=4))
    head = material.fresh_head(Plan("linear")).eval()
    whole = logits_of(head, material.reader, "e", None, CPU)
    torch.testing.assert_close(logits_of(head, material.reader, "e", patch, CPU), whole, rtol=1e-3, atol=1e-3)


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best(cohort, tmp_path):
    config = train(cohort, tmp_path / "head", Plan("linear", features="random", epochs=40, patience=3))
    rows = list(csv.DictReader((tmp_path / "head/curves.csv").open()))
    dice = [float(row["dice"]) for row in rows]
    assert len(rows) == config.training["epochs"] < 40
    assert len(rows) - config.training["best_epoch"] == 3
    assert config.training["dice"] == max(dice)
    material = material_of(cohort, Plan("linear", features="random"))
    plan = Plan("linear", features="random")
    task = HeadTask(material, plan)
    training = Trainer(task, course_of(plan, task), CPU)
    task.network.load_state_dict(open_trained(tmp_path / "head").heads[0][0].state_dict())
    assert training.validate() == max(dice)


def test_a_killed_training_goes_on_and_ends_as_one_that_was_not(featlift, cohort, tmp_path):
    """SIGKILL after some epoch, with dropout, noise and random patches at work: the same weights, bit for bit."""
    given = ("--masks", cohort / "labels", "--labels", cohort / "splits.csv", "--head", "subcube", "--device", "cpu")
    given = ("segment", "train", cohort / "features.zarr", *given, "--width", "8", "--window", "6,6,6", "--epochs", "5")
    command = [sys.executable, "-m", "featlift.cli.main", *map(str, given), "-o", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    curves = tmp_path / "killed/curves.csv"
    while process.poll() is None and not (curves.exists() and len(curves.read_text().splitlines()) > 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    assert not (tmp_path / "killed/config.json").exists()
    me = this_process()
    draft = tmp_path / f"killed/.~{me.host}~{process.pid}~{me.namespace}.1.0badcafe.safetensors"  # as if it was writing
    draft.write_bytes(b"half")
    done = featlift(*given, "-o", "killed")
    assert done.returncode == 0, done.stderr
    assert "trainable parameters" in done.stdout
    assert featlift(*given, "-o", "whole").returncode == 0
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == FILES
    best = [json.loads((tmp_path / name / "config.json").read_text())["training"] for name in ("killed", "whole")]
    assert best[0]["best_epoch"] == best[1]["best_epoch"]


def test_a_trained_head_is_left_alone_and_another_plan_refused(cohort, tmp_path):
    config = train(cohort, tmp_path / "head", Plan("linear", epochs=1))
    before = (tmp_path / "head/weights.safetensors").stat().st_mtime_ns
    assert train(cohort, tmp_path / "head", Plan("linear", epochs=1)) == config
    assert (tmp_path / "head/weights.safetensors").stat().st_mtime_ns == before
    with pytest.raises(OptionError, match=r"another plan: epochs \(there 1, asked 2\)"):
        train(cohort, tmp_path / "head", Plan("linear", epochs=2))
    (tmp_path / "head/weights.safetensors").write_bytes(b"broken")
    with pytest.raises(StoreError, match=r"weights\.safetensors are missing, damaged"):
        read_head(tmp_path / "head")


def test_random_numbers_of_the_caller_are_left_alone(cohort, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(cohort, tmp_path / "head", Plan("subcube", {"width": 8}, epochs=1))
    assert torch.equal(torch.rand(1), expected)


def test_folds_keep_patients_together_and_test_each_case_once():
    patients = {f"case{number:02d}": f"p{number // 3}" for number in range(30)}  # three scans each
    ids = list(patients)
    folds = folds_of(ids, patients, 5, seed=1)
    assert sorted(case for fold in folds for case in fold.test) == ids
    for fold in folds:
        parts = [{patients[case] for case in part} for part in (fold.train, fold.val, fold.test)]
        assert not parts[0] & parts[1]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]
        assert all(parts)
        assert sorted(fold.train + fold.val + fold.test) == ids
    tests = [set(fold.test) for fold in folds]
    assert tests == [set(fold.test) for fold in folds_of(ids[::-1], patients, 5, seed=1)]
    assert tests != [set(fold.test) for fold in folds_of(ids, patients, 5, seed=2)]
    with pytest.raises(OptionError, match="11 folds of 10 patients"):
        folds_of(ids, patients, 11)


def test_a_fifth_of_the_patients_validates_unless_a_split_says_who():
    splits = {f"case{number:02d}": "train" for number in range(20)} | {"t": "test"}
    split = split_of(splits, {})
    assert (len(split.train), len(split.val), split.test) == (16, 4, ["t"])
    assert not set(split.train) & set(split.val)
    given = split_of(splits | {"v": "val"}, {})
    assert (len(given.train), given.val) == (20, ["v"])
    with pytest.raises(OptionError, match="patient p is in two splits: case00 in train, t in test"):
        split_of(splits, {"case00": "p", "t": "p"})


def test_cross_validation_tests_each_case_by_a_head_that_did_not_see_it(cohort, tmp_path):
    store = open_store(cohort / "features.zarr")
    masks = find_masks(store, cohort / "labels")
    folds = folds_of(list(SPLITS), {}, 3)
    configs = list(cross_validate(store, masks, folds, Plan("linear", epochs=1), tmp_path / "cv"))
    assert [config.test for config in configs] == [fold.test for fold in folds]
    trained = open_trained(tmp_path / "cv")
    assert len(trained.heads) == 3
    for case_id in SPLITS:
        unseen = trained.unseen(case_id)
        assert any(case_id in config.test for _, config in unseen)
        assert all(case_id not in (*config.train, *config.val) for _, config in unseen)
        assert not trained.saw(case_id)
    assert len(trained.unseen("z")) == 3

"""Fine-tuning from scans on disk to predictions: it learns, is kept, goes on, and is used by everything else."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from featlift import open_store
from featlift.finetuning.decoder import Decoder
from featlift.finetuning.folder import read_model
from tests.finetuning.conftest import AFFINE, NETWORK

CLASSIFY = ("finetune", "train", "scans", "--task", "classify", "--labels", "cases.csv", "--label", "label", *NETWORK)
CLASSIFY += ("--intensity", "window:0,250", "--batch", "4")
SEGMENT = ("finetune", "train", "scans", "--task", "segment", "--labels", "cases.csv", "--masks", "labels", *NETWORK)
SEGMENT += ("--intensity", "window:0,250", "--batch", "2", "--width", "64", "--warm-up", "2")


def told(text, *words):
    """Whether a message of one line has all of these."""
    return all(word in text for word in words) and "Traceback" not in text


def rows_of(path):
    return list(csv.DictReader(path.open()))


@pytest.mark.parametrize("adapt", ["full", "lora", "head"])
def test_brightness_is_learned_and_predicted(featlift, cohort, adapt):
    rates = {"full": ("--rate", "1e-3"), "lora": ("--rate", "5e-3"), "head": ("--rate", "1e-1")}
    how = ("--adapt", adapt, "--epochs", "15", "--warm-up", "1", *rates[adapt])
    done = featlift(*CLASSIFY, *how, "-o", "model")
    assert done.returncode == 0, done.stderr
    curves = rows_of(cohort / "model/curves.csv")
    assert max(float(row["auc"]) for row in curves) > 0.9
    assert not (cohort / "model/checkpoint.pt").exists()
    done = featlift(
        "finetune", "predict", "scans", "--model-dir", "model", "-o", "out", "--labels", "cases.csv", "--split", "test"
    )
    assert done.returncode == 0, done.stderr
    predicted = rows_of(cohort / "out/predictions.csv")
    assert [row["id"] for row in predicted] == ["c12", "c13", "c14", "c15"]
    bright = [float(row["bright"]) for row in predicted]
    assert min(bright[1], bright[3]) > max(bright[0], bright[2])
    (result,) = [json.loads(path.read_text()) for path in (cohort / "out").glob("*.json")]
    assert result["measures"]["auc"]["mean"] == 1
    assert {case["id"] for case in result["cases"]} == {"c12", "c13", "c14", "c15"}
    again = featlift(*CLASSIFY, *how, "-o", "model")
    assert again.returncode == 0
    other = featlift(*CLASSIFY, *how, "--seed", "3", "-o", "model")
    assert told(other.stderr, "model", "another plan", "seed")


def test_other_labels_or_masks_under_the_same_names_are_another_training(featlift, cohort):
    how = ("--adapt", "head", "--epochs", "1", "--warm-up", "0")
    assert featlift(*CLASSIFY, *how, "-o", "model").returncode == 0
    table = cohort / "cases.csv"
    before = table.read_text()
    rows = rows_of(table)
    other = "dim" if rows[0]["label"] == "bright" else "bright"
    line = before.splitlines()[1]
    table.write_text(before.replace(line, line.replace(rows[0]["label"], other)))
    assert told(featlift(*CLASSIFY, *how, "-o", "model").stderr, "another plan", "labels or masks")
    table.write_text(before)
    assert featlift(*CLASSIFY, *how, "-o", "model").returncode == 0

    how = ("--adapt", "head", "--iterations", "3", "--every", "3")
    assert featlift(*SEGMENT, *how, "-o", "masks").returncode == 0
    mask = nib.load(cohort / "labels/c00.nii.gz")
    nib.save(nib.Nifti1Image(mask.get_fdata()[::-1].astype(np.uint8), mask.affine), cohort / "labels/c00.nii.gz")
    assert told(featlift(*SEGMENT, *how, "-o", "masks").stderr, "another plan", "labels or masks")


def test_what_is_seen_at_test_changes_nothing(featlift, cohort):
    """The model is the same whatever the test cases are."""
    how = ("--adapt", "head", "--epochs", "2", "--warm-up", "0")
    assert featlift(*CLASSIFY, *how, "-o", "one").returncode == 0
    for name in ("c12", "c13"):
        (cohort / f"scans/{name}.nii.gz").write_bytes(b"no scan")
    assert featlift(*CLASSIFY, *how, "-o", "two").returncode == 0
    one, two = (load_file(cohort / name / "head.safetensors") for name in ("one", "two"))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_findings_are_trained_together(featlift, cohort):
    text = (cohort / "cases.csv").read_text().replace("dim", "0").replace("bright", "1")
    (cohort / "cases.csv").write_text(text.replace("c00,train,0,0", "c00,train,,0"))  # one is not known
    command = [word if word != "label" else "label,other" for word in CLASSIFY]
    how = ("--adapt", "full", "--epochs", "6", "--warm-up", "1", "--rate", "1e-3")
    done = featlift(*command, *how, "-o", "model")
    assert done.returncode == 0, done.stderr
    done = featlift("finetune", "predict", "scans", "--model-dir", "model", "-o", "out", "--labels", "cases.csv")
    assert done.returncode == 0, done.stderr
    assert len(list((cohort / "out").glob("*.json"))) == 2
    assert set(rows_of(cohort / "out/predictions.csv")[0]) == {"id", "label", "other"}


@pytest.mark.parametrize("window", [(), ("--window", "3,32,32")])
def test_masks_are_learned_and_lie_on_the_voxels_of_the_scan(featlift, cohort, window):
    how = ("--adapt", "full", "--iterations", "80", "--every", "20", "--rate", "3e-3", *window, "--size", "48")
    done = featlift(*SEGMENT, *how, "--label-names", "1=block", "-o", "model")
    assert done.returncode == 0, done.stderr
    assert len(rows_of(cohort / "model/curves.csv")) == 4
    tested = ("--labels", "cases.csv", "--split", "test", "--masks", "labels")
    done = featlift("finetune", "predict", "scans", "--model-dir", "model", "-o", "out", *tested)
    assert done.returncode == 0, done.stderr
    (result,) = [json.loads(path.read_text()) for path in (cohort / "out").glob("*.json")]
    assert result["measures"]["dice"]["mean"] > 0.6
    for name in ("c12", "c15"):
        image = nib.load(cohort / f"out/{name}.nii.gz")
        np.testing.assert_allclose(image.affine, AFFINE)
        found, truth = image.get_fdata(), nib.load(cohort / f"labels/{name}.nii.gz").get_fdata()
        assert found.shape == truth.shape
        assert 2 * (found * truth).sum() / (found.sum() + truth.sum()) > 0.5


def test_a_decoder_learns_on_features_of_a_frozen_network_in_any_layout():
    """torch 2.13's GroupNorm ends the process here where features are channels-last."""
    torch.manual_seed(0)
    decoder, features = Decoder(32, outputs=3, width=64), torch.randn(2, 32, 3, 2, 3)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        decoder.zero_grad()
        decoder(features.contiguous(memory_format=layout)).square().mean().backward()
        found.append(decoder.norm.weight.grad.clone())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("adapt", ["lora", "full"])
def test_an_extraction_takes_the_trained_network(featlift, cohort, adapt):
    how = ("--adapt", adapt, "--epochs", "2", "--warm-up", "0", "--rate", "0.1" if adapt == "lora" else "1e-2")
    assert featlift(*CLASSIFY, *how, "-o", "model").returncode == 0
    options = ("--intensity", "window:0,250", "--save-dtype", "float32", "--precision", "fp32", *NETWORK)
    assert featlift("extract", "scans/c00.nii.gz", "-o", "plain.zarr", *options).returncode == 0
    done = featlift("extract", "scans/c00.nii.gz", "-o", "tuned.zarr", "--adapter", "model", *options)
    assert done.returncode == 0, done.stderr
    plain, tuned = open_store("plain.zarr"), open_store("tuned.zarr")
    assert len(tuned.recipe["adapter_sha256"]) == 64
    assert "adapter_sha256" not in plain.recipe
    network, _, _ = read_model("model", "cpu")
    scan = torch.from_numpy(np.asarray(tuned["c00"].scan[:], np.float32))
    with torch.no_grad():
        want = network.encoder(scan[None, None]).dense[0]
    np.testing.assert_allclose(np.asarray(tuned["c00"].dense[:]), want, atol=2e-3)
    assert np.abs(np.asarray(tuned["c00"].dense[:]) - np.asarray(plain["c00"].dense[:])).max() > 0.05
    again = featlift("extract", "scans/c01.nii.gz", "-o", "plain.zarr", "--adapter", "model", *options)
    assert told(again.stderr, "adapter_sha256")


def test_a_killed_training_goes_on_and_ends_as_one_that_was_not(featlift, cohort):
    how = ("--adapt", "lora", "--epochs", "6", "--warm-up", "1", "--lora-dropout", "0.1", "--at-once", "3")
    command = [sys.executable, "-m", "featlift.cli.main", *CLASSIFY, *how, "-o", "killed"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    curves = cohort / "killed/curves.csv"
    while process.poll() is None and not (curves.exists() and len(curves.read_text().splitlines()) > 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (cohort / "killed/checkpoint.pt").exists()
    assert featlift(*CLASSIFY, *how, "-o", "killed").returncode == 0
    assert featlift(*CLASSIFY, *how, "-o", "whole").returncode == 0
    for name in ("head.safetensors", "adapter_model.safetensors"):
        killed, whole = (load_file(cohort / folder / name) for folder in ("killed", "whole"))
        assert all(np.array_equal(killed[key], whole[key]) for key in whole), name


def test_two_processes_are_one_with_the_same_batches(cohort):
    """torchrun with gloo on the CPU; batches of 3 of 8 cases leave a last one that is smaller than the others."""
    command = [word if word != "4" else "3" for word in CLASSIFY]
    how = [*command, "--adapt", "lora", "--epochs", "2", "--warm-up", "0", "--precision", "fp32"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    runs = {"one": [sys.executable], "two": torchrun}
    for name, start in runs.items():
        done = subprocess.run(
            [*start, "-m", "featlift.cli.main", *how, "-o", name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    for name in ("head.safetensors", "adapter_model.safetensors"):
        one, two = (load_file(cohort / folder / name) for folder in ("one", "two"))
        for key, value in one.items():
            np.testing.assert_allclose(two[key], value, atol=1e-6)
    assert len(rows_of(cohort / "two/curves.csv")) == 2


def test_what_cannot_be_is_said_before_training(featlift, cohort):
    text = (cohort / "cases.csv").read_text()
    quick = ("--epochs", "1", "--warm-up", "0", "-o", "model")
    for find, replace, words in (
        ("c00,train,dim", "c00,train,odd", ("class odd", "val")),
        ("c00,train", "c99,train", ("cases.csv", "c99", "no scan")),
        ("c00,train,dim", "c00,train,", ("c00", "no label")),
        ("c00,train", "c00,training", ("'training'", "train, val, test")),
        ("id,split,label", "id,part,label", ("no column split",)),
    ):
        (cohort / "cases.csv").write_text(text.replace(find, replace))
        done = featlift(*CLASSIFY, *quick)
        assert done.returncode == 1 or done.returncode == 2, find
        assert told(done.stderr, *words), done.stderr
    patients = [f"{line},p{number // 5}" for number, line in enumerate(text.splitlines()[1:])]
    (cohort / "cases.csv").write_text("\n".join(["id,split,label,other,patient", *patients]) + "\n")
    assert told(featlift(*CLASSIFY, *quick).stderr, "patient p1", "two splits")
    (cohort / "cases.csv").write_text(text)
    for more, words in (
        (("--adapt", "lora", "--lora-targets", "attn.q"), ("'attn.q'", "attn.qkv")),
        (("--warm-up", "5"), ("warm-up 5",)),
        (("--layer-decay", "0.5", "--adapt", "head"), ("layer decay",)),
        (("--tokens", "mean"), ("--tokens", "patch-mean")),
        (("--window", "4,4,4"), ("crop", "segment")),
        (("--iterations", "9"), ("epochs", "task segment")),
    ):
        done = featlift(
            *CLASSIFY, "--epochs", "1", *([] if "--warm-up" in more else ["--warm-up", "0"]), *more, "-o", "m"
        )
        assert told(done.stderr, *words), done.stderr
    assert not (cohort / "m").exists() or not list((cohort / "m").iterdir())
    (cohort / "run.toml").write_text('[network]\nadapter = "model"\n')
    assert told(featlift(*CLASSIFY, *quick, "--config", "run.toml").stderr, "own weights", "--adapter")
    without = [word for word in SEGMENT if word not in ("--masks", "labels")]
    assert told(featlift(*without, "--iterations", "1", "--warm-up", "0", "-o", "m").stderr, "--masks")
    (cohort / "labels/c02.nii.gz").unlink()
    assert told(featlift(*SEGMENT, "--iterations", "1", "--warm-up", "0", "-o", "m").stderr, "c02", "no mask")
    assert told(featlift("finetune", "predict", "scans", "--model-dir", "m", "-o", "o").stderr, "m", "no fine-tuned")
    shutil.rmtree(cohort / "scans")
    assert featlift(*CLASSIFY, *quick).returncode != 0

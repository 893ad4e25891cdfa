"""3DME fine-tuned, whole or its head alone, from a pretraining's folder or from scratch: to predictions and a store."""

import csv
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from featlift import open_store
from featlift.encoders.threedme import Pretrained, ThreeDME, ThreeDMEConfig, write_encoder
from featlift.finetuning.folder import read_model
from tests.finetuning.conftest import AFFINE

SMALL = {"size": 32, "width": 24, "depth": 2, "heads": 2, "fuse_after": (1, 2), "deformable_heads": 2}
SMALL |= {"convolutions": (4, 6, 8)}
PREPARATION = {"spacing": [1.5, 1.0, 1.0], "intensity": "window:0.0,250.0"}
NETWORK = ("--mode", "native", "--model", "3dme:net", "--device", "cpu", "--labels", "cases.csv")
CLASSIFY = ("finetune", "train", "scans", "--task", "classify", "--label", "label", *NETWORK, "--batch", "4")
SEGMENT = ("finetune", "train", "scans", "--task", "segment", "--masks", "labels", *NETWORK, "--batch", "2")
SEGMENT += ("--width", "64", "--warm-up", "2")
TEST = ("finetune", "predict", "scans", "--labels", "cases.csv", "--split", "test", "--model-dir")


@pytest.fixture
def pretrained(cohort):
    """The cohort, and a folder as a pretraining writes it."""
    torch.manual_seed(0)
    network = ThreeDME(ThreeDMEConfig(**SMALL))
    write_encoder(cohort / "net", network, Pretrained(network.config.to_json(), PREPARATION))
    return cohort


def rows_of(path):
    return list(csv.DictReader(path.open()))


@pytest.mark.parametrize("how", ["full", "head", pytest.param("scratch", marks=pytest.mark.soak)])
def test_brightness_is_learned_and_predicted(featlift, pretrained, how):
    more = ("--adapt", "head" if how == "head" else "full", "--epochs", "8", "--warm-up", "1", "--rate", "2e-3")
    more = (*more, *(("--weights", "random:3") if how == "scratch" else ()))
    done = featlift(*CLASSIFY, *more, "-o", "model")
    assert done.returncode == 0, done.stderr
    done = featlift(*TEST, "model", "-o", "out")
    assert done.returncode == 0, done.stderr
    bright = [float(row["bright"]) for row in rows_of(pretrained / "out/predictions.csv")]
    assert min(bright[1], bright[3]) > max(bright[0], bright[2])
    _, config, _ = read_model("model", "cpu")
    assert config.recipe["spacing"] == PREPARATION["spacing"]  # of the pretraining, though nobody asked for it
    assert (config.parameters["backbone"] > 0) == (how != "head")
    before, path = load_file(pretrained / "net/weights.safetensors"), pretrained / "model/encoder/weights.safetensors"
    assert path.exists() == (how != "head")
    if how == "full":
        after = load_file(path)
        still = [name for name in before if np.array_equal(before[name], after[name])]
        assert not [name for name in still if name.startswith(("blocks.", "fusions.", "patches."))]


@pytest.mark.parametrize("adapt", ["full", "head"])
def test_masks_are_learned_and_lie_on_the_voxels_of_the_scan(featlift, pretrained, adapt):
    how = ("--adapt", adapt, "--iterations", "30", "--every", "30", "--rate", "5e-3", "--no-augment")
    done = featlift(*SEGMENT, *how, "--window", "8,24,24", "-o", "model")
    assert done.returncode == 0, done.stderr
    done = featlift(*TEST, "model", "--masks", "labels", "-o", "out")
    assert done.returncode == 0, done.stderr
    (result,) = [json.loads(path.read_text()) for path in (pretrained / "out").glob("*.json")]
    assert result["measures"]["dice"]["mean"] > 0.6
    image = nib.load(pretrained / "out/c13.nii.gz")
    np.testing.assert_allclose(image.affine, AFFINE)
    assert image.shape == nib.load(pretrained / "labels/c13.nii.gz").shape
    network, _, _ = read_model("model", "cpu")
    assert [layer.index for layer in network.encoder.feature_layers] == [0, 1]


def test_the_trained_encoder_is_a_folder_like_that_of_its_pretraining(featlift, pretrained):
    how = ("--adapt", "full", "--epochs", "1", "--warm-up", "0", "--rate", "1e-3")
    assert featlift(*CLASSIFY, *how, "-o", "model").returncode == 0
    (pretrained / "net").rename(pretrained / "elsewhere")  # nothing of it is needed any more
    options = ("--mode", "native", "--model", "3dme:model/encoder", "--device", "cpu", "--save-dtype", "float32")
    done = featlift("extract", "scans/c00.nii.gz", *options)
    assert done.returncode == 0, done.stderr
    case = open_store("features.zarr")["c00"]
    network, _, _ = read_model("model", "cpu")
    scan = torch.from_numpy(np.asarray(case.scan[:], np.float32))[None, None]
    multiple = [-size % 8 for size in scan.shape[2:]]
    scan = torch.nn.functional.pad(scan, [w for size in reversed(multiple) for w in (0, size)], mode="replicate")
    with torch.no_grad():
        want = network.encoder(scan).dense[0]
    np.testing.assert_allclose(np.asarray(case.dense[:]), want, atol=2e-3)
    done = featlift(*TEST, "model", "-o", "out")
    assert done.returncode == 0, done.stderr


def test_a_head_asks_for_the_weights_that_it_was_trained_on(featlift, pretrained):
    how = ("--adapt", "head", "--epochs", "1", "--warm-up", "0")
    assert featlift(*CLASSIFY, *how, "-o", "model").returncode == 0
    (pretrained / "net").rename(pretrained / "elsewhere")
    assert "no pretrained 3dme" in featlift(*TEST, "model", "-o", "out").stderr
    assert featlift(*TEST, "model", "-o", "out", "--weights", "elsewhere").returncode == 0
    torch.manual_seed(1)
    other = ThreeDME(ThreeDMEConfig(**SMALL))
    write_encoder(pretrained / "net", other, Pretrained(other.config.to_json(), PREPARATION))
    assert "head is of other weights" in featlift(*TEST, "model", "-o", "out").stderr


def test_batch_norms_learn_with_the_encoder_and_stand_still_with_a_frozen_one(featlift, pretrained):
    """A frozen encoder gives in training what it gives afterwards."""
    how = ("--epochs", "1", "--warm-up", "0")
    before = load_file(pretrained / "net/weights.safetensors")
    assert featlift(*CLASSIFY, *how, "--adapt", "head", "-o", "head").returncode == 0
    network, _, _ = read_model("head", "cpu")
    network.train()
    assert not any(module.training for module in network.encoder.modules())
    assert featlift(*CLASSIFY, *how, "--adapt", "full", "-o", "full").returncode == 0
    after = load_file(pretrained / "full/encoder/weights.safetensors")
    assert not np.array_equal(before["convolutions.1.running_mean"], after["convolutions.1.running_mean"])


@pytest.mark.soak
def test_batch_norms_of_two_processes_have_the_means_of_both(pretrained):
    """After one step of all cases, the first one's are those that one process has; without, half of them count."""
    how = ["--epochs", "1", "--warm-up", "0", "--adapt", "full", "--batch", "8", "--no-augment"]
    command = [*CLASSIFY, *how]
    runs = {"one": [], "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}
    for name, start in runs.items():
        full = [sys.executable, *start, "-m", "featlift.cli.main", *command, "-o", name]
        done = subprocess.run(full, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (load_file(pretrained / name / "encoder/weights.safetensors") for name in runs)
    np.testing.assert_allclose(two["convolutions.1.running_mean"], one["convolutions.1.running_mean"], rtol=1e-5)


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        (CLASSIFY, ("--adapt", "lora"), ("--adapt lora", "lifted")),
        (CLASSIFY, ("--layer-decay", "0.5"), ("--layer-decay", "lifted")),
        (CLASSIFY, ("--tokens", "patch-mean"), ("--tokens", "lifted")),
        (CLASSIFY, ("--pooling", "mean"), ("--pooling", "lifted")),
        (CLASSIFY, ("--spacing", "3"), ("--spacing", "its own")),
        (CLASSIFY, ("--orientations", "axial,coronal"), ("--orientations",)),
        (CLASSIFY, ("--model", "monai:SegResNet", "--weights", "random:0"), ("monai:SegResNet", "3dme")),
        (SEGMENT, ("--model", "3dme:nowhere"), ("nowhere", "featlift pretrain 3dme")),
    ],
)
def test_what_it_has_no_use_for_is_said_before_scans_are_read(featlift, pretrained, command, more, words):
    for path in (pretrained / "scans").iterdir():
        path.write_bytes(b"no scan")
    done = featlift(*command, *more, "-o", "m")
    assert done.returncode != 0
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") == 0

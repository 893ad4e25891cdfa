"""3DME learns to give back what was blotted out, goes on where it was stopped, and is measured on unseen scans."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from featlift import open_store
from featlift.encoders.threedme import ThreeDME, read_encoder
from featlift.errors import OptionError
from featlift.extraction.network import lifted_backbone
from featlift.pretraining.folder import read_pretrained
from featlift.pretraining.losses import edges, reconstruction
from featlift.pretraining.meaning import Meaning
from featlift.pretraining.network import Autoencoder, Masked, unpatched
from featlift.pretraining.plan import PretrainPlan
from featlift.pretraining.scoring import scores_of
from featlift.pretraining.training import Cohort, pretrain
from featlift.volumes import Preparation, Reading, find_scans
from tests.pretraining.cohort import AFFINE, ENCODER, FEW, OPTIONS, SPLIT, STAGES, ball, write_cohort
from tests.support.scans import write_nifti

PLAN = PretrainPlan("tiny", OPTIONS, 16, STAGES, (0.7, 0, 0.1), iterations=4, every=1, batch=2, warm_up=1)
PHI = {"weights": "random:0", "device": "cpu", "precision": "fp32", "mode": "2d"}
PHI |= {"loading": {"embed_dim": 48, "depth": 2, "num_heads": 3}}
OF_PHI = ("--model", "vits16", "--weights", "random:0", "--mode", "2d")
OF_PHI += tuple(word for name in ("embed_dim=48", "depth=2", "num_heads=3") for word in ("--model-arg", name))


def cohort_of(folder, split=SPLIT):
    scans = {scan.id: scan for scan in find_scans([folder / "scans"]).scans}
    return Cohort(scans, split, Preparation(spacing=(1.0, 1.0, 1.0)), Reading())


def cube(seed=0, side=16):
    values = torch.from_numpy(ball(seed, (side,) * 3)) / 200
    mask = torch.rand(1, 1, side, side, side, generator=torch.Generator().manual_seed(seed)) < 0.5
    return Masked(values[None, None], mask)


def network():
    torch.manual_seed(0)
    return Autoencoder(ThreeDME(PLAN.config))


def test_patches_lie_where_they_were():
    volume = torch.arange(2 * 16 * 24 * 8).view(2, 1, 16, 24, 8)
    patches = volume.unfold(2, 8, 8).unfold(3, 8, 8).unfold(4, 8, 8).reshape(2, 6, 512)
    assert torch.equal(unpatched(patches, (2, 3, 1), 8), volume)


def test_one_cube_is_learnt():
    net, batch, losses = network(), cube(), []
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(60):
        output = net(batch)
        loss = 0.7 * reconstruction(output, batch.target, batch.mask) + 0.1 * edges(output, batch.target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_what_is_masked_is_not_seen():
    net, batch = network().eval(), cube()
    other = Masked(torch.where(batch.mask, torch.rand_like(batch.target), batch.target), batch.mask)
    with torch.no_grad():
        assert torch.equal(net(batch), net(other))
        assert not torch.equal(net(batch), net(Masked(1 - batch.target, batch.mask)))


def test_semantics_by_a_lifted_network():
    """Gradients reach the reconstruction and no weight; equal volumes cost nothing; 20 voxels are no whole patches."""
    meaning = Meaning(lifted_backbone("vits16", **PHI))
    batch = cube(side=20)
    output = torch.rand_like(batch.target).requires_grad_()
    loss = meaning.loss(output, batch.target, batch.mask)
    loss.backward()
    assert 0 < float(loss.detach()) < 2
    assert float(output.grad.abs().sum()) > 0
    assert all(value.grad is None for value in meaning.encoder.parameters())
    assert float(meaning.loss(batch.target, batch.target, batch.mask)) == pytest.approx(0, abs=1e-5)
    step = 1e-2 * output.grad / output.grad.norm()
    with torch.no_grad():
        better = meaning.loss(output - step, batch.target, batch.mask)
    assert float(better - loss.detach()) == pytest.approx(-1e-2 * float(output.grad.norm()), rel=0.2)


def test_semantics_of_another_spacing():
    meaning = Meaning(lifted_backbone("vits16", **PHI))
    millimetre = Preparation(spacing=(1.0, 1.0, 1.0))
    meaning.check(millimetre, 3)
    meaning.encoder.preparation = {"spacing": (1.5, 1.5, 1.5)}
    with pytest.raises(OptionError, match=r"voxels of 1.5 x 1.5 x 1.5 mm, the scans have 1 x 1 x 1 mm"):
        meaning.check(millimetre, 0)
    meaning.check(Preparation(spacing=(1.5, 1.5, 1.5)), 0)
    with pytest.raises(OptionError, match="3 scans would be grown"):
        meaning.check(Preparation(spacing=(1.5, 1.5, 1.5)), 3)
    meaning.encoder.preparation = {"intensity": "zscore"}
    with pytest.raises(OptionError, match="intensities of zscore"):
        meaning.check(millimetre, 0)


def test_scores():
    rng = np.random.default_rng(0)
    target = rng.random((16, 16, 16), np.float32)
    mask = np.zeros(target.shape, np.bool_)
    mask[4:12, 4:12, 4:12] = True
    elsewhere = np.where(mask, target, 5)
    assert scores_of(elsewhere, target, mask) == pytest.approx({"mae": 0, "psnr": 100, "ssim": 1})
    off = scores_of(0.9 * target, target, mask)
    assert off["mae"] == pytest.approx(np.abs(0.9 * target - target)[mask].mean(), rel=0.01)
    assert off["psnr"] == pytest.approx(-10 * np.log10(np.square(0.1 * target)[mask].mean()), rel=0.01)
    assert 0.5 < off["ssim"] < 1


def test_what_went_on_ends_as_what_was_not_interrupted(tmp_path):
    write_cohort(tmp_path)
    cohort = cohort_of(tmp_path)
    whole = pretrain(cohort, PLAN, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(row, rounds):
        if row["epoch"] == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        pretrain(cohort, PLAN, tmp_path / "part", told=stop)
    (tmp_path / "part/stage-1.png").unlink()  # as if it had been killed before
    with pytest.raises(OptionError, match="another plan: seed"):
        pretrain(cohort, replace(PLAN, seed=1), tmp_path / "part")
    part = pretrain(cohort, PLAN, tmp_path / "part")
    for name in ("weights", "decoder"):
        one, other = (load_file(tmp_path / folder / f"{name}.safetensors") for folder in ("whole", "part"))
        assert all(np.array_equal(one[key], other[key]) for key in one)
    assert part.training["val_loss"] == whole.training["val_loss"]
    pictures = [(tmp_path / folder / "stage-1.png").read_bytes() for folder in ("whole", "part")]
    assert pictures[0] == pictures[1]


def test_from_scans_to_scores(featlift, tmp_path):
    write_cohort(tmp_path)
    given = ("pretrain", "3dme", "scans", "--labels", "cases.csv", *ENCODER, *FEW, *OF_PHI, "-o", "net")
    done = featlift(*given)
    assert done.returncode == 0, done.stderr
    assert "on crops of 16³; best validation loss" in done.stdout
    files = {path.name for path in (tmp_path / "net").iterdir()}
    assert files == {
        *("config.json", "weights.safetensors", "decoder.safetensors", "curves.csv", "curves.svg"),
        *("stage-1.png", "stage-2.png"),
    }
    rows = list(csv.DictReader((tmp_path / "net/curves.csv").open()))
    parts = [{name: float(row[f"val_{name}"]) for name in ("rec", "sem", "edge", "loss")} for row in rows]
    assert len(parts) == 4
    assert parts[0]["loss"] == pytest.approx(0.7 * parts[0]["rec"] + 0.2 * parts[0]["sem"] + 0.1 * parts[0]["edge"])
    config = json.loads((tmp_path / "net/config.json").read_text())
    assert config["preparation"] == {"intensity": "percentile:0.5,99.5", "spacing": [1.0, 1.0, 1.0]}
    assert config["meaning"]["model"].startswith("vits16") or config["meaning"]["mode"] == "2d"
    assert (config["train"], config["val"], config["test"]) == (SPLIT.train, SPLIT.val, SPLIT.test)
    encoder, _ = read_encoder(tmp_path / "net")
    whole, _ = read_pretrained(tmp_path / "net", torch.device("cpu"))
    seen = torch.rand(1, 1, 16, 16, 24)
    with torch.no_grad():
        assert torch.equal(encoder.tokens(seen), whole.encoder.tokens(seen))
    assert featlift(*given).returncode == 0, "it is done already"
    other = featlift(*given, "--model-arg", "depth=3")
    assert other.returncode == 2
    assert "semantic_model_args" in other.stderr
    scored = featlift("pretrain", "score", "scans", "--model-dir", "net", "-o", "out", "--device", "cpu")
    assert scored.returncode == 0, scored.stderr
    results = [json.loads((tmp_path / f"out/net-reconstruction{name}.json").read_text()) for name in ("", "-mean")]
    assert [[case["id"] for case in result["cases"]] for result in results] == [SPLIT.test] * 2
    assert results[0]["protocol"] == {"name": "masked", "cube": 8, "ratio": 0.5, "side": 16, "seed": 0}
    compared = featlift("compare", "out/net-reconstruction.json", "out/net-reconstruction-mean.json")
    assert compared.returncode == 0, compared.stderr
    assert "PSNR" in compared.stdout


def test_a_pretrained_encoder_makes_features_and_may_be_semantics(featlift, tmp_path):
    write_cohort(tmp_path)
    given = ("pretrain", "3dme", "scans", "--labels", "cases.csv", *ENCODER, *FEW)
    assert featlift(*given, "--losses", "1,0,0", "-o", "net").returncode == 0
    native = ("--mode", "native", "--model", "3dme:net", "--device", "cpu")
    made = featlift("extract", "scans", *native, "-o", "store.zarr")
    assert made.returncode == 0, made.stderr
    recipe = open_store(tmp_path / "store.zarr").recipe
    assert (recipe["spacing"], recipe["model"]) == ([1, 1, 1], "3dme:net")
    refused = featlift(*given, *native, "--spacing", 0.8, "-o", "again")
    assert refused.returncode == 2
    assert "3dme:net was trained on voxels of 1 x 1 x 1 mm, the scans have 0.8 x 0.8 x 0.8 mm" in refused.stderr
    done = featlift(*given, *native, "-o", "again")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "again/config.json").read_text())["meaning"]["model"] == "3dme:net"


def test_bad_input_in_one_line(featlift, tmp_path):
    write_cohort(tmp_path)
    write_nifti(tmp_path / "one/a.nii.gz", ball(0), AFFINE)
    dark = np.zeros((40, 40, 40), np.float32)
    dark[:3, :3, :3] = 1
    for name in "ab":
        write_nifti(tmp_path / f"dark/{name}.nii.gz", dark, AFFINE)
    (tmp_path / "wrong.csv").write_text("id,split\nnobody,train\n")
    given = ("pretrain", "3dme", "scans", *ENCODER, *FEW, "--losses", "0.7,0,0.1", "-o", "net")
    for call, message in {
        (*given, "--side", 20): "multiple of the 8 voxels of a patch",
        (*given, "--side", 8): "multiple of the 8 voxels of a patch",
        (*given, "--stages", "16:0.75"): "masks 1 of 1 cubes of a crop of 16³",
        (*given, "--stages", "8:0.01"): "masks 0 of 8 cubes",
        (*given, "--stages", "4:0.3,8:1.5"): "ratios lie between 0 and 1",
        (*given, "--iterations", 2, "--every", 2): "lasts none of 1 rounds",
        (*given, "--encoder-arg", "nothing=1"): "there is not",
        (*given, "--losses", "1,2"): "give weights of reconstruction, semantics and edges",
        (*given, "--labels", "wrong.csv"): "1 of 1 ids are no scan",
        (*given, "--spacing", 8): "would be grown",
        (*given[:2], "one", *given[3:]): "give two or more",
        (*given[:2], "dark", *given[3:], "--intensity", "minmax"): "background",
        (*given, "--losses", "1,1,1", "--model", "nothing"): "nothing",
        (*given, "--rate", 1e30, "--clip", 0): "training has diverged",
        ("pretrain", "score", "scans", "--model-dir", "nowhere", "-o", "out"): "no pretrained 3dme",
    }.items():
        done = featlift(*call)
        assert done.returncode == 2, (call, done.stdout, done.stderr)
        assert done.stderr.count("\n") == 1, done.stderr
        assert message in done.stderr, (call, done.stderr)
    assert not (tmp_path / "net/config.json").exists()


def run(folder, *words, processes=1):
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    words = ("pretrain", "3dme", "scans", "--labels", "cases.csv", *ENCODER, "--losses", "0.7,0,0.1", *words)
    return subprocess.Popen(
        [sys.executable, *start, "-m", "featlift.cli.main", *map(str, words)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.soak
def test_a_killed_training_goes_on_and_ends_as_one_that_was_not(tmp_path):
    write_cohort(tmp_path)
    given = ("--iterations", 8, "--every", 1, "--batch", 2, "--warm-up", 1)
    process = run(tmp_path, *given, "-o", "killed")
    curves = tmp_path / "killed/curves.csv"
    while process.poll() is None and not (curves.exists() and len(curves.read_text().splitlines()) > 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "killed/checkpoint.pt").exists()
    assert not (tmp_path / "killed/config.json").exists()
    assert run(tmp_path, *given, "-o", "killed").wait() == 0
    assert run(tmp_path, *given, "-o", "whole").wait() == 0
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("killed", "whole"))
    assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.soak
def test_two_processes_learn_one_network(tmp_path):
    """Weights of two are those of one but for batch norms, which see half of a batch each."""
    write_cohort(tmp_path)
    given = (*FEW, "--batch", 4)
    assert run(tmp_path, *given, "-o", "two", processes=2).wait() == 0
    assert run(tmp_path, *given, "-o", "again", processes=2).wait() == 0
    assert run(tmp_path, *given, "-o", "one").wait() == 0
    one, two, again = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two", "again"))
    assert all(np.array_equal(two[key], again[key]) for key in two)
    assert max(np.abs(one[key] - two[key]).max() for key in one if "running" not in key) < 5e-3

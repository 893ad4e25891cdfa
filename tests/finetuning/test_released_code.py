"""Fine-tuning as the released code does it: its logits, gradients, steps of AdamW, and its decoder."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from featlift import lift
from featlift.finetuning.classifier import Labelled, LiftedClassifier, classification_loss
from featlift.finetuning.decoder import LiftedSegmenter, Masked, segmentation_loss
from tests.conftest import GOLDEN, GOLDEN_MODEL
from tests.support.networks import load_backbone

SYSTEMS = GOLDEN / "systems"
MODES = {"PCg": "pcg", "2d": "2d", "PCm": "pcm", "3d": "3d"}


@pytest.fixture(scope="module")
def training():
    return dict(np.load(SYSTEMS / "training.npz")), json.loads((SYSTEMS / "training.json").read_text())


@pytest.fixture(scope="module")
def segmentation():
    return dict(np.load(SYSTEMS / "segmentation.npz"))


def lifted(mode, checkpointing=True, **how):
    backbone = load_backbone("vits16", GOLDEN / "weights.safetensors", trainable=True, **GOLDEN_MODEL)
    return lift(backbone, MODES[mode], normalise=False, checkpointing=checkpointing, **how)


def official(name):
    """The name of a parameter in the released code, of timm's."""
    for ours, theirs in (("reg_token", "storage_tokens"), ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")):
        name = name.replace(ours, theirs)
    return name


def named(network, what):
    """Parameters, or their gradients, by the names of the released code; q and v biases are parts of one there."""
    found = {}
    for name, value in network.encoder.backbone.net.named_parameters():
        if (values := what(value)) is not None:
            found[official(name)] = values.detach()
    for name, value in network.named_parameters():
        if not name.startswith("lifted") and (values := what(value)) is not None:
            found[name] = values.detach()
    for block in range(6):
        halves = [found.pop(f"blocks.{block}.attn.{letter}_bias", None) for letter in "qv"]
        if halves[0] is not None:
            q, v = halves
            found[f"blocks.{block}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    return found


def classifier(golden, mode, **how):
    network = LiftedClassifier(lifted(mode, **how), outputs=3, depth=5)
    state = {"head.weight": golden["head.weight"], "head.bias": golden["head.bias"]}
    if network.pool is not None:
        state |= {"pool.weight": golden["pool.weight"], "pool.bias": golden["pool.bias"]}
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    return network.train()


def batch_of(golden):
    volumes = torch.from_numpy(golden["input"])
    return Labelled(list(volumes), torch.from_numpy(golden["labels"]).long())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("checkpointing", [True, False])
def test_ten_steps_of_full_fine_tuning_are_those_of_the_released_code(training, mode, checkpointing):
    golden, _ = training
    network = classifier(golden, mode, checkpointing=checkpointing, plane_batch=2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-5, weight_decay=0.05)
    batch, losses = batch_of(golden), []
    for step in range(10):
        logits = network(batch)
        if not step:
            assert_close(logits.detach(), torch.from_numpy(golden[f"{mode}/logits"]), atol=1e-4, rtol=0)
        loss = classification_loss(logits, batch.targets)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        if not step and f"{mode}/grad/head.weight" in golden:
            check_gradients(golden, mode, named(network, lambda value: value.grad), 2e-4)
        optimiser.step()
    with torch.no_grad():
        logits = network(batch)
    losses.append(classification_loss(logits, batch.targets).item())
    np.testing.assert_allclose(losses, golden[f"{mode}/losses"], atol=1e-4)
    assert_close(logits, torch.from_numpy(golden[f"{mode}/logits_after"]), atol=1e-4, rtol=0)
    final = named(network, lambda value: value)
    for key in golden:
        if not key.startswith(f"{mode}/final/"):
            continue
        name, every, _ = key.removeprefix(f"{mode}/final/").partition("[::8]")
        got = final[name][::8] if every else final[name]
        away = (got.reshape(golden[key].shape) - torch.from_numpy(golden[key])).abs()
        if name.endswith("qkv.bias"):
            away[128:256] = 0  # of k, which is masked there, and timm has not
        assert np.percentile(away.numpy(), 99.9) < 5e-6, name
        assert away.max() < 1e-3, name


@pytest.mark.parametrize("mode", ["PCg", "2d"])
def test_every_block_draws_a_scale_of_its_rotary_coordinates(training, mode, monkeypatch):
    golden, _ = training
    network = classifier(golden, mode, plane_batch=2)
    network.encoder.backbone.rescale_rope(2.0)
    network.train()
    rope, factors, asked = network.encoder.backbone.rope, golden["rescale/factors"].tolist(), [0]
    draw = "timm.layers.pos_embed_sincos._apply_coord_augs"  # timm also draws for positions that no block uses
    monkeypatch.setattr(draw, lambda coords, *how: coords * factors[asked[-1]])
    monkeypatch.setattr(
        network.encoder.backbone, "rope", lambda block, *plane: [asked.append(block), rope(block, *plane)][1]
    )
    batch = batch_of(golden)
    logits = network(batch)
    assert_close(logits.detach(), torch.from_numpy(golden[f"rescale/{mode}/logits"]), atol=1e-4, rtol=0)
    assert asked[1:] == list(range(6))
    loss = classification_loss(logits, batch.targets)
    assert loss.item() == pytest.approx(golden[f"rescale/{mode}/loss"].item(), abs=1e-4)
    loss.backward()
    want = torch.from_numpy(golden[f"rescale/{mode}/grad/cls_token"])
    assert_close(network.encoder.backbone.net.cls_token.grad, want, atol=2e-4 * want.abs().max().item(), rtol=0)


def check_gradients(golden, mode, found, tolerance):
    checked = 0
    for key in golden:
        if not key.startswith(f"{mode}/grad/"):
            continue
        name, every, _ = key.removeprefix(f"{mode}/grad/").partition("[::8]")
        want = torch.from_numpy(golden[key])
        got = found[name][::8] if every else found[name]
        assert_close(got.reshape(want.shape), want, atol=tolerance * want.abs().max().item() + 1e-12, rtol=0, msg=name)
        checked += 1
    assert checked >= 5


@pytest.mark.parametrize("mode", ["PCg", "2d"])
def test_three_steps_of_segmentation_are_those_of_the_released_code(segmentation, mode):
    golden = segmentation
    network = LiftedSegmenter(lifted(mode), outputs=1, width=64).train()
    prefix = "decoder/"
    state = {key.removeprefix(prefix): torch.from_numpy(golden[key]) for key in golden if key.startswith(prefix)}
    network.decoder.load_state_dict(state)
    groups = [
        {"params": network.encoder.parameters(), "lr": 1e-5},
        {"params": network.decoder.parameters(), "lr": 1e-4},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-3)
    batch = Masked(torch.from_numpy(golden["input"]), torch.from_numpy(golden["mask"])[:, 0].long())
    losses, norms = [], []
    for step in range(3):
        logits = network(batch)
        if not step:
            assert_close(logits.detach(), torch.from_numpy(golden[f"{mode}/logits"]), atol=3e-4, rtol=0)
        loss = segmentation_loss(logits, batch.classes)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        if not step:
            check_gradients(golden, mode, named(network, lambda value: value.grad), 5e-4)
        norms.append(torch.nn.utils.clip_grad_norm_(network.parameters(), 0.8).item())
        optimiser.step()
    np.testing.assert_allclose(losses, golden[f"{mode}/losses"], atol=1e-4)
    np.testing.assert_allclose(norms, golden[f"{mode}/grad_norm_before_clipping"], rtol=1e-3)

"""Fine-tuning a lifted network: gradients are those of the plain formula, and what is frozen stays as it was."""

import pytest
import torch
from torch.testing import assert_close

from featlift import lift
from featlift.lifting.reference import planecycle
from tests.lifting.test_properties import LIFTS
from tests.support.networks import load_backbone

TINY = {"depth": 4, "embed_dim": 64, "num_heads": 1, "init_values": 0.5}


@pytest.fixture
def trainable():
    """In float64, so that a wrong gradient cannot pass for rounding."""
    return load_backbone("vits16", "random:0", trainable=True, **TINY).double()


def random(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def gradients(backbone, features, tokens):
    backbone.zero_grad()
    (features.square().mean() + tokens.square().sum()).backward()
    return {
        name: parameter.grad.clone() for name, parameter in backbone.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("plane_batch", [None, 2])
@pytest.mark.parametrize("how", LIFTS, ids=lambda how: "-".join(how.values()))
def test_gradients_are_those_of_the_plain_formula(trainable, how, plane_batch):
    volume = random(1, 1, 3, 32, 48)
    cycle = ("HW",) if how["mode"] == "2d" else ("HW", "DW", "DH", "HW")
    route = how.get("token_pooling", "depth")
    x, g = planecycle(trainable, volume, "pcg" if how["mode"] == "2d" else how["mode"], cycle, route)
    want = gradients(trainable, x, g)
    lifted = lift(trainable, plane_batch=plane_batch, **how)(volume)
    got = gradients(trainable, lifted.dense, lifted.tokens)
    assert want.keys() == got.keys()
    assert len(want) > 50
    for name, gradient in want.items():
        assert_close(got[name], gradient, atol=1e-9, rtol=1e-7, msg=name)


def test_only_inputs_of_blocks_are_kept_for_the_way_back(trainable):
    """A block of the tiny ViT makes about 14 values for one; what autograd keeps of each is what it was given."""
    volume = random(1, 1, 16, 64, 64)
    weights = {parameter.data_ptr() for parameter in trainable.parameters()}
    kept = []

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = lift(trainable, norm=False, plane_batch=2)(volume)
        lifted = sum(kept)
        kept.clear()
        planecycle(trainable, volume, "pcg", ("HW", "DW", "DH", "HW"), "depth")
    assert lifted < sum(kept) / 3
    assert features.dense.requires_grad


def test_running_out_of_memory_halves_batches_of_training_too(trainable, monkeypatch):
    volume = random(1, 1, 4, 32, 32)
    lifted = lift(trainable, plane_batch=4)
    features = lifted(volume)
    want = gradients(trainable, features.dense, features.tokens)
    run_block, calls = trainable.run_block, []

    def run(index, planes, tokens, rope):
        calls.append(len(planes))
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run_block(index, planes, tokens, rope)

    monkeypatch.setattr(trainable, "run_block", run)
    features = lifted(volume)
    got = gradients(trainable, features.dense, features.tokens)
    assert calls[:3] == [4, 2, 2]
    for name, gradient in want.items():
        assert_close(got[name], gradient, atol=1e-9, rtol=1e-7, msg=name)


def test_fine_tuning_lowers_a_loss(trainable):
    volume, wanted = random(1, 1, 3, 32, 32), torch.randn(1, 64, 3, 2, 2)
    lifted = lift(trainable).train()
    optimizer = torch.optim.Adam(trainable.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = (lifted(volume).dense - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["golden_backbone", "lite0"])
def test_training_mode_leaves_a_frozen_backbone_alone(request, name):
    """As when a head is trained on top: no new statistics, no random positions, no dropped paths."""
    backbone = request.getfixturevalue(name)
    volume = torch.rand(1, 1, 3, 2 * backbone.stride, 2 * backbone.stride)
    state = {key: value.clone() for key, value in backbone.net.state_dict().items()}
    lifted = lift(backbone)
    want = lifted(volume).dense
    model = torch.nn.Sequential(lifted, torch.nn.Identity()).train()
    assert model.training
    assert not any(module.training for module in backbone.modules())
    assert_close(lifted(volume).dense, want, atol=0, rtol=0)
    for key, value in backbone.net.state_dict().items():
        assert_close(value, state[key], atol=0, rtol=0)


def test_statistics_of_batch_norms_do_not_depend_on_how_planes_are_batched():
    """Even while their network is trained: what a batch is, memory decides."""
    backbone = load_backbone("resnet18", "random:0", trainable=True)
    means = {key: value.clone() for key, value in backbone.net.state_dict().items() if "running" in key}
    lifted = lift(backbone).train()
    assert backbone.blocks[1].training
    lifted(torch.rand(1, 1, 2, 64, 64)).dense.sum().backward()
    for key, value in means.items():
        assert_close(backbone.net.state_dict()[key], value, atol=0, rtol=0)


def test_random_positions_are_for_what_is_trained(trainable):
    volume = random(1, 1, 3, 32, 32)
    trainable.net.rope.shift_coords, trainable.net.rope.aug_active = 0.5, True
    lifted = lift(trainable).train()
    with torch.no_grad():
        assert (lifted(volume).dense - lifted(volume).dense).abs().max() > 1e-4
        trainable.requires_grad_(False)
        lifted.train()
        assert_close(lifted(volume).dense, lifted(volume).dense, atol=0, rtol=0)

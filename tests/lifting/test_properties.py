"""What must hold for any backbone and volume, whatever the reference says."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from featlift import lift
from featlift.lifting.planes import from_planes, to_planes
from featlift.lifting.reference import planecycle
from featlift.lifting.tokens import pool_adaptive, pool_mean
from tests.support.networks import load_backbone

LIFTS = [{"mode": mode, "token_pooling": route} for mode in ("pcg", "pcm") for route in ("depth", "direct")]
LIFTS.append({"mode": "2d"})


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4)),
    cycle=st.lists(st.sampled_from(["HW", "DW", "DH"]), min_size=1, max_size=5),
    mode=st.sampled_from(["pcg", "pcm"]),
    route=st.sampled_from(["depth", "direct"]),
    plane_batch=st.one_of(st.none(), st.integers(1, 8)),
)
def test_any_cycle_equals_the_formula(golden_backbone, shape, cycle, mode, route, plane_batch):
    depth, h, w = shape
    volume = torch.rand(1, 1, depth, 16 * h, 16 * w)
    lifted = lift(golden_backbone, mode, cycle, route, plane_batch=plane_batch)
    features = lifted(volume)
    with torch.no_grad():
        x, g = planecycle(golden_backbone, volume, mode, tuple(cycle), route)
    assert_close(features.dense.permute(0, 2, 3, 4, 1), x, atol=5e-5, rtol=1e-5)
    assert_close(features.tokens, g, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("how", LIFTS, ids=lambda how: "-".join(how.values()))
@pytest.mark.parametrize("name", ["tiny_vit", "lite0", "golden_backbone"])
def test_any_batching_equals_none(request, name, how):
    backbone = request.getfixturevalue(name)
    volume = torch.rand(2, 1, 5, 2 * backbone.stride, 3 * backbone.stride)
    whole = lift(backbone, plane_batch=10**6, **how)(volume)
    for plane_batch in (1, 2, 3, 7):
        parts = lift(backbone, plane_batch=plane_batch, **how)(volume)
        assert_close(parts.dense, whole.dense, atol=5e-5, rtol=1e-5)
        assert_close(parts.tokens, whole.tokens, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("how", [*LIFTS, {"mode": "3d"}], ids=lambda how: "-".join(how.values()))
def test_gradients_take_the_same_path(how):
    """With gradients nothing is written in place, and the features are the same."""
    trainable = load_backbone("vits16", "random:0", trainable=True, depth=4, embed_dim=64, num_heads=1, init_values=0.5)
    volume = torch.rand(1, 1, 3, 32, 48)
    with torch.no_grad():
        want = lift(trainable, **how)(volume)
    got = lift(trainable, **how)(volume)
    assert_close(got.dense, want.dense, atol=5e-5, rtol=1e-5)
    (got.dense.square().mean() + got.tokens.square().mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trainable.net.blocks.parameters())
    assert trainable.net.patch_embed.proj.weight.grad.abs().sum() > 0


def test_a_frozen_backbone_records_nothing(golden_backbone):
    features = lift(golden_backbone)(torch.rand(1, 1, 2, 32, 32))
    assert not features.dense.requires_grad


def test_gradients_reach_the_volume_through_a_frozen_backbone(golden_backbone):
    volume = torch.rand(1, 1, 2, 32, 32, requires_grad=True)
    lift(golden_backbone)(volume).dense.square().mean().backward()
    assert volume.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["tiny_vit", "lite0", "golden_backbone"])
@pytest.mark.parametrize("mode", ["2d", "pcg", "pcm"])
def test_a_layer_is_the_same_alone_and_among_others(request, name, mode):
    """Later blocks write in place: a layer read before them must not change."""
    backbone = request.getfixturevalue(name)
    volume = torch.rand(1, 1, 4, 2 * backbone.stride, 2 * backbone.stride)
    several = lift(backbone, mode, layers=range(len(backbone.layers)))(volume)
    for index in several.layers:
        alone = lift(backbone, mode, layers=[index])(volume)
        assert_close(several.layers[index].dense, alone.dense, atol=5e-5, rtol=1e-5)
        assert_close(several.layers[index].tokens, alone.tokens, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny_vit", "lite0", "golden_backbone"])
def test_only_hw_is_slice_by_slice(request, name):
    backbone = request.getfixturevalue(name)
    volume = torch.rand(2, 1, 3, 2 * backbone.stride, 3 * backbone.stride)
    cycled = lift(backbone, "pcg", cycle="HW")(volume)
    sliced = lift(backbone, "2d")(volume)
    assert_close(cycled.dense, sliced.dense, atol=0, rtol=0)
    for d in range(3):  # no slice hears of another
        one = lift(backbone, "2d")(volume[:, :, d : d + 1])
        assert_close(sliced.dense[:, :, d : d + 1], one.dense, atol=5e-5, rtol=1e-5)


def test_planecycle_does_hear_of_other_slices(golden_backbone, lite0):
    for backbone in (golden_backbone, lite0):
        volume = torch.rand(1, 1, 6, 2 * backbone.stride, 2 * backbone.stride)
        changed = volume.clone()
        changed[:, :, 5] = 0
        before, after = (lift(backbone)(v).dense[:, :, 0] for v in (volume, changed))
        assert (before - after).abs().max() > 1e-3


def test_grey_is_repeated_and_normalised(golden_backbone):
    grey = torch.rand(1, 1, 2, 32, 32)
    colour = golden_backbone.normalise(grey[:, 0].transpose(0, 1))[None].transpose(1, 2)
    assert_close(lift(golden_backbone)(grey).dense, lift(golden_backbone, normalise=False)(colour).dense)
    assert_close(lift(golden_backbone)(grey).dense, lift(golden_backbone)(grey.expand(-1, 3, -1, -1, -1)).dense)


def test_planes_are_views_and_come_back():
    x = torch.arange(2 * 3 * 4 * 5 * 6.0).view(2, 3, 4, 5, 6)
    shapes = {"HW": (2, 3, 4, 5, 6), "DW": (2, 4, 3, 5, 6), "DH": (2, 5, 3, 4, 6)}
    for plane, shape in shapes.items():
        planes = to_planes(x, plane)
        assert planes.shape == shape
        assert planes.data_ptr() == x.data_ptr()
        assert torch.equal(from_planes(planes, plane, depth=3), x)
    d, h, w = 1, 2, 3
    assert torch.equal(to_planes(x, "DW")[0, h, d, w], x[0, d, h, w])
    assert torch.equal(to_planes(x, "DH")[0, w, d, h], x[0, d, h, w])


def test_pooling_of_tokens():
    tokens = torch.tensor([0.0, 2.0, 4.0, 10.0]).view(1, 4, 1, 1)
    assert pool_adaptive(tokens, 2).flatten().tolist() == [1, 7]
    assert pool_adaptive(tokens, 3).flatten().tolist() == [1, 3, 7]  # windows overlap where they do not divide
    assert pool_adaptive(tokens, 4) is tokens
    assert pool_mean(tokens, 2).flatten().tolist() == [4, 4]
    none = torch.empty(2, 4, 0, 8)
    for planes, pool in itertools.product((1, 3, 9), (pool_adaptive, pool_mean)):
        assert pool(none, planes).shape == (2, planes, 0, 8)

"""Every mode, route and shape against the reference's own outputs."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from featlift import lift
from tests.conftest import GOLDEN, GOLDEN_MODEL
from tests.support.networks import load_backbone

SHAPES = ("cubic", "aniso", "nondiv", "d1", "flat")
MODES = {
    "PCg": {"mode": "pcg"},
    "PCm": {"mode": "pcm"},
    "Slice2D": {"mode": "2d"},
    "Flatten3D": {"mode": "3d"},
    "PCg_direct": {"mode": "pcg", "token_pooling": "direct"},
    "PCm_direct": {"mode": "pcm", "token_pooling": "direct"},
}
TOLERANCE = {"atol": 5e-5, "rtol": 1e-5}  # of the golden outputs, float32 on a CPU


def volume_of(golden, shape):
    return torch.from_numpy(golden[f"{shape}/input"])[None]


def assert_equal(features, golden, name, batch=0):
    """Compare with `name`/patch (D, h, w, C), /cls (G, C) and /storage (G, 4, C)."""
    dense = features.dense[batch].permute(1, 2, 3, 0)
    tokens = features.tokens[batch]
    assert_close(dense, torch.from_numpy(golden[f"{name}/patch"]), **TOLERANCE)
    assert_close(tokens[:, 0], torch.from_numpy(golden[f"{name}/cls"]), **TOLERANCE)
    assert_close(tokens[:, 1:], torch.from_numpy(golden[f"{name}/storage"]), **TOLERANCE)


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_volume(golden, golden_backbone, shape, name):
    lifted = lift(golden_backbone, normalise=False, **MODES[name])
    assert_equal(lifted(volume_of(golden, shape)), golden, f"{shape}/{name}")


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_two_volumes_keep_to_themselves(golden, golden_backbone, shape, name):
    volume = volume_of(golden, shape)
    features = lift(golden_backbone, normalise=False, **MODES[name])(torch.cat([volume, volume.flip(2) + 1]))
    assert_equal(features, golden, f"{shape}/{name}", batch=0)
    features = lift(golden_backbone, normalise=False, **MODES[name])(torch.cat([volume.flip(2) + 1, volume]))
    assert_equal(features, golden, f"{shape}/{name}", batch=1)


def test_block_by_block(golden, golden_backbone):
    lifted = lift(golden_backbone, mode="pcg", layers=range(6), normalise=False, norm=False)
    features = lifted(volume_of(golden, "nondiv"))
    for block, layer in features.layers.items():
        x = torch.from_numpy(golden[f"nondiv/trace_PCg/block{block}/x"])
        g = torch.from_numpy(golden[f"nondiv/trace_PCg/block{block}/g"])
        assert_close(layer.dense[0].permute(1, 2, 3, 0), x, **TOLERANCE)
        assert_close(layer.tokens[0], g, **TOLERANCE)


def test_embedding(golden, golden_backbone):
    slices = volume_of(golden, "nondiv")[0].transpose(0, 1)
    with torch.no_grad():
        planes, tokens = golden_backbone.embed(slices)
    assert_close(planes, torch.from_numpy(golden["nondiv/trace_PCg/embed/x"]), **TOLERANCE)
    assert_close(tokens, torch.from_numpy(golden["nondiv/trace_PCg/embed/g"]), **TOLERANCE)


def test_periods_rounded_to_bfloat16(golden):
    backbone = load_backbone("vits16", GOLDEN / "weights.safetensors", rope_periods="bf16", **GOLDEN_MODEL)
    assert_close(backbone.net.rope.periods, torch.from_numpy(golden["periods_bf16"]), rtol=0, atol=0)
    features = lift(backbone, normalise=False)(volume_of(golden, "nondiv"))
    assert_equal(features, golden, "nondiv/PCg_periods_bf16")


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_keeps_the_direction_of_every_patch_token(golden, shape):
    backbone = load_backbone("vits16", GOLDEN / "weights.safetensors", **GOLDEN_MODEL).to(torch.bfloat16)
    dense = lift(backbone, normalise=False)(volume_of(golden, shape)).dense[0].float().permute(1, 2, 3, 0)
    cosine = torch.cosine_similarity(dense, torch.from_numpy(golden[f"{shape}/PCg/patch"]), dim=-1)
    assert cosine.min() >= 0.999


@pytest.mark.parametrize(("dtype", "lowest"), [(torch.bfloat16, 0.9999), (torch.float16, 0.99999)])
def test_half_precision_through_twelve_blocks(dtype, lowest):
    """A ViT-S whose LayerScale lets every block add its error to the next."""
    exact, rounded = (load_backbone("vits16", "random:0", init_values=0.5) for _ in range(2))
    volume = torch.rand(1, 1, 6, 48, 64)
    want, got = lift(exact)(volume), lift(rounded.to(dtype))(volume)
    assert got.dense.dtype == dtype
    assert torch.cosine_similarity(got.dense.float(), want.dense, dim=1).min() >= lowest
    assert torch.cosine_similarity(got.tokens.float(), want.tokens, dim=-1).min() >= lowest


def test_the_routes_differ_where_pooling_does_not_compose(golden):
    """Guards the golden data itself: a test that compared one route with itself would pass here."""
    difference = np.abs(golden["nondiv/PCg/cls"] - golden["nondiv/PCg_direct/cls"]).max()
    assert difference > 0.1

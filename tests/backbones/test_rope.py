"""DINOv3's rotary periods: which ones a backbone has, that they survive casts, and their extension to 3D."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from featlift import lift
from featlift.backbones.rope import rope_3d
from featlift.errors import LiftingError, WeightsError
from tests.conftest import GOLDEN, GOLDEN_MODEL
from tests.support.networks import load_backbone
from tests.support.tiny import TINY, save, says

FORMULA = 100 ** (torch.arange(16) / 16)
ROUNDED = FORMULA.bfloat16().float()
ODD = FORMULA * 1.01
_PERIODS = {"formula": FORMULA, "rounded": ROUNDED, "rounded in bfloat16": FORMULA.bfloat16(), "odd": ODD, "none": None}


@pytest.fixture
def file_with(tmp_path):
    """The golden weights with the periods named, or without any."""

    def write(periods):
        state = load_file(GOLDEN / "weights.safetensors")
        state["rope_embed.periods"] = _PERIODS[periods]
        return save(
            {key: value for key, value in state.items() if value is not None}, tmp_path / f"{periods}.safetensors"
        )

    return write


def dense(backbone):
    return lift(backbone)(torch.linspace(0, 1, 3 * 64 * 48).view(1, 1, 3, 64, 48)).dense


@pytest.mark.parametrize(
    ("file", "choice", "expected", "name"),
    [
        ("formula", "auto", FORMULA, "fp32"),
        ("rounded", "auto", ROUNDED, "bf16"),
        ("rounded in bfloat16", "auto", ROUNDED, "bf16"),
        ("odd", "auto", ODD, None),
        ("none", "auto", ROUNDED, "bf16"),  # as the published files hold them
        ("odd", "file", ODD, None),
        ("odd", "fp32", FORMULA, "fp32"),
        ("odd", "bf16", ROUNDED, "bf16"),
        ("none", "fp32", FORMULA, "fp32"),
    ],
)
def test_periods_are_those_of_the_choice(file_with, file, choice, expected, name):
    backbone = load_backbone("vits16", file_with(file), rope_periods=choice, **GOLDEN_MODEL)
    periods = backbone.net.rope.periods
    assert periods.dtype == torch.float32
    assert_close(periods, expected, rtol=1e-6, atol=0)
    told = backbone.weights["rope_periods"]
    if name:
        assert told == name
    else:
        assert torch.equal(torch.tensor([float(period) for period in told.split()]), periods)


def test_a_file_without_periods_gives_the_features_of_one_with_published_periods(file_with):
    hub, official = (dense(load_backbone("vits16", file_with(file), **GOLDEN_MODEL)) for file in ("none", "rounded"))
    assert torch.equal(hub, official)
    exact = dense(load_backbone("vits16", file_with("formula"), **GOLDEN_MODEL))
    assert (hub - exact).abs().max() > 1e-4


def test_other_models_with_such_a_rope_compute_their_periods():
    backbone = load_backbone("vit_small_patch16_rope_224", "random:0", rope_type="dinov3", **TINY)
    assert backbone.weights["rope_periods"] == "fp32"


@pytest.mark.parametrize(
    "cast",
    [
        lambda backbone: backbone.to(torch.bfloat16),
        lambda backbone: backbone.half(),
        lambda backbone: backbone.to(torch.bfloat16).float(),
        lambda backbone: backbone.double(),
        lambda backbone: backbone.to(device="cpu", dtype=torch.bfloat16),
        lambda backbone: copy.deepcopy(backbone).bfloat16(),
    ],
)
@pytest.mark.parametrize("file", ["rounded", "odd"])
def test_casts_keep_the_periods_of_the_file_in_float32(file_with, file, cast):
    backbone = cast(load_backbone("vits16", file_with(file), **GOLDEN_MODEL))
    periods = backbone.net.rope.periods
    assert periods.dtype == torch.float32
    assert torch.equal(periods, _PERIODS[file])
    assert backbone.rope(0, 2, 3).shape == (6, 128)


def test_a_round_trip_through_bfloat16_changes_no_features(file_with):
    path = file_with("odd")
    rounded = {key: value.bfloat16().float() for key, value in load_file(path).items()}
    rounded["rope_embed.periods"] = ODD
    once = load_backbone("vits16", save(rounded, path.with_name("a.safetensors")), **GOLDEN_MODEL)
    before = dense(once)
    assert torch.equal(dense(once.bfloat16().float()), before)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "resnet18"])
@pytest.mark.parametrize("choice", ["file", "fp32", "bf16"])
def test_a_choice_is_refused_where_there_is_no_such_rope(name, choice):
    arguments = {} if name == "resnet18" else TINY
    with pytest.raises(WeightsError) as refusal:
        load_backbone(name, "random:0", rope_periods=choice, **arguments)
    assert says(refusal, repr(choice), "no DINOv3 rotary embedding")


@pytest.mark.parametrize(
    ("file", "choice", "words"),
    [("none", "file", ("no rope_embed.periods",)), ("odd", "fp64", ("'fp64'", "auto, file, fp32, bf16"))],
)
def test_a_choice_that_cannot_be_had_is_refused(file_with, file, choice, words):
    with pytest.raises(WeightsError) as refusal:
        load_backbone("vits16", file_with(file), rope_periods=choice, **GOLDEN_MODEL)
    assert says(refusal, *words)


@pytest.mark.parametrize("choice", ["auto", "file"])
def test_a_wrong_number_of_periods_is_refused(file_with, choice, monkeypatch):
    monkeypatch.setitem(_PERIODS, "odd", FORMULA[:8])
    with pytest.raises(WeightsError) as refusal:
        load_backbone("vits16", file_with("odd"), rope_periods=choice, **GOLDEN_MODEL)
    assert says(refusal, "8 values", "16")


@pytest.mark.parametrize(("head", "sections"), [(64, (8, 12, 12)), (128, (16, 24, 24))])
def test_in_3d_each_axis_has_its_section_of_the_head(head, sections):
    shape = (2, 3, 5)
    embedding = rope_3d(shape, head, 100.0, torch.device("cpu"))
    assert embedding.shape == (2 * 3 * 5, 2 * head)
    sines, cosines = embedding.chunk(2, dim=-1)
    assert_close(sines.square() + cosines.square(), torch.ones(30, head))
    first, second = sines.chunk(2, dim=-1)
    assert torch.equal(first, second)  # the two halves that timm rotates into each other
    for axis, section in enumerate(first.view(*shape, head // 2).split(sections, dim=-1)):
        other_axes = [other for other in range(3) if other != axis]
        along, across = section.std(axis), section.std(other_axes)
        assert along.amin() > 0
        assert across.amax() < 1e-6
        coordinate = 2 * (torch.arange(shape[axis]) + 0.5) / shape[axis] - 1
        fastest = section.movedim(axis, 0)[:, 0, 0, 0]
        assert_close(fastest, (2 * torch.pi * coordinate).sin())  # the first period is one


def test_in_3d_a_backbone_of_wide_heads_has_its_rope():
    backbone = load_backbone("vit7b16", "random:0", embed_dim=256, depth=1, num_heads=2)
    assert backbone.rope_3d(2, 3, 4).shape == (24, 256)


def test_in_3d_other_heads_are_refused():
    backbone = load_backbone("vits16", "random:0", embed_dim=64, depth=1, num_heads=2)
    with pytest.raises(LiftingError, match="64, 128"):
        backbone.rope_3d(2, 3, 4)

"""`load_backbone`: names, arguments, seeds, gradients, and what happens where the weights are not."""

import os
import subprocess
import sys

import pytest
import torch

import featlift
from featlift import lift
from featlift.backbones.precision import DTYPES, resolve_device, resolve_precision
from featlift.errors import ModelError, WeightsError
from tests.conftest import GOLDEN, GOLDEN_MODEL
from tests.support.networks import load_backbone
from tests.support.tiny import TINY, says

VIT = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vitz16", ("'vitz16'", "did you mean", "vits16")),
        ("vit_smal_patch16_dinov3", ("vit_small_patch16_dinov3",)),
        ("efficientnet-lite", ("efficientnet-lite0",)),
        ("xyzzy", ("'xyzzy'", "`featlift models`")),
        ("hf-hub:timm/resnet18.a1_in1k", ("unknown model",)),  # a remote configuration is not followed
        ("", ("unknown model",)),
        (f"{VIT}.no_such_tag", ("no_such_tag",)),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, words):
    with pytest.raises(ModelError) as refusal:
        load_backbone(name, "random:0")
    assert says(refusal, *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("swin_tiny_patch4_window7_224", ("SwinTransformer", "VisionTransformer, Eva, ConvNeXt, ResNet, EfficientNet")),
        ("vgg11", ("VGG",)),
        ("mobilenetv3_small_050", ("MobileNetV3",)),
        ("vit_tiny_r_s16_p8_224", ("vit_tiny_r_s16_p8_224", "HybridEmbed")),
        ("mixnet_s", ("mixnet_s", "position of its cells is unknown")),  # windows side by side
        ("skresnet18", ("skresnet18", "position of its cells is unknown")),
    ],
)
def test_an_unsupported_structure_is_refused_by_name(name, words):
    with pytest.raises(ModelError) as refusal:
        load_backbone(name, "random:0")
    assert says(refusal, *words)


@pytest.mark.parametrize(
    "argument",
    [
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
        "scriptable",
        "exportable",
        "no_jit",
    ],
)
@pytest.mark.parametrize("weights", ["random:0", "missing.pth", None])
def test_arguments_that_are_of_no_architecture_are_refused_before_anything_is_looked_for(argument, weights):
    with pytest.raises(ModelError) as refusal:
        load_backbone(VIT, weights, **{argument: False})
    assert says(refusal, VIT, argument, "--model-arg", "--weights")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"nonsense": 1}, ("TypeError", "nonsense")),
        ({"embed_dim": 65}, ("65",)),
        ({"depth": "three"}, ("'depth': 'three'",)),
        ({"num_heads": 0}, ("ZeroDivisionError", "'num_heads': 0")),
        ({"patch_size": 0}, ("'patch_size': 0",)),
        ({"pretrained": True}, ("pretrained",)),
        ({"features_only": True}, ("family featlift cannot lift",)),
        ({"in_chans": 1}, ("1 input channels",)),
        ({"patch_size": (16, 8)}, ("(16, 8)", "square")),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(arguments, words):
    with pytest.raises(ModelError) as refusal:
        load_backbone(VIT, "random:0", **TINY | arguments)
    assert says(refusal, *words)


def test_arguments_shape_the_model_and_are_recorded():
    backbone = load_backbone(VIT, "random:0", **TINY, patch_size=8)
    assert (backbone.num_blocks, backbone.stride, backbone.layers[-1].channels) == (3, 8, 48)
    assert backbone.arguments == TINY | {"patch_size": 8}


def test_a_short_name_and_its_timm_name_are_the_same_model():
    short, long = (
        load_backbone(name, GOLDEN / "weights.safetensors", **GOLDEN_MODEL)
        for name in ("vits16", "vit_small_patch16_dinov3_qkvb.lvd1689m")
    )
    assert (short.name, short.family, short.mean, short.std) == (long.name, long.family, long.mean, long.std)
    assert short.weights == long.weights


# ── seeds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_seed_gives_its_weights_whatever_was_drawn_before_and_disturbs_nothing():
    first = load_backbone(VIT, "random:7", **TINY)
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    again, other = load_backbone(VIT, "random:7", **TINY), load_backbone(VIT, "random:8", **TINY)
    assert torch.equal(torch.get_rng_state(), before)

    states = [backbone.net.state_dict() for backbone in (first, again, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["blocks.0.attn.qkv.weight"], states[2]["blocks.0.attn.qkv.weight"])
    assert first.weights == again.weights
    assert first.weights["source"] == "random:7"
    assert first.weights["sha256"] != other.weights["sha256"]


@pytest.mark.parametrize("seed", ["", "x", "-1", "1.5", "²", str(2**64)])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(WeightsError) as refusal:
        load_backbone(VIT, f"random:{seed}", **TINY)
    assert says(refusal, f"random:{seed}", "whole number")


# ── frozen or not ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "arguments"), [(VIT, TINY), ("resnet18", {}), ("convnext_atto", {})])
@pytest.mark.parametrize("trainable", [False, True])
def test_a_backbone_is_in_evaluation_mode_and_frozen_unless_trainable(name, arguments, trainable):
    backbone = load_backbone(name, "random:0", trainable=trainable, **arguments)
    assert not any(module.training for module in backbone.modules())
    assert {parameter.requires_grad for parameter in backbone.parameters()} == {trainable}
    dense = lift(backbone)(torch.rand(1, 1, 2, 64, 64)).dense
    assert dense.requires_grad == trainable
    if trainable:
        dense.sum().backward()
        assert next(backbone.parameters()).grad.abs().sum() > 0


def test_making_a_backbone_leaves_the_running_means_of_the_weights():
    backbone = load_backbone("resnet18", "random:0")
    for key, value in backbone.net.state_dict().items():
        if key.endswith("running_mean"):
            assert not value.any(), key
        elif key.endswith("running_var"):
            assert (value == 1).all(), key


# ── precision and device ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_weights_have_the_precision_asked_for(precision):
    backbone = featlift.load_backbone(VIT, "random:0", precision=precision, device="cpu", **TINY)
    assert {each.dtype for each in backbone.parameters()} == {DTYPES[precision]}
    assert lift(backbone).recipe()["precision"] == precision
    assert lift(backbone)(torch.rand(1, 1, 2, 64, 64)).dense.dtype == DTYPES[precision]


@pytest.mark.parametrize(("name", "arguments"), [(VIT, TINY), ("resnet18", {})])
def test_without_a_word_precision_and_device_are_those_of_the_command(name, arguments):
    on = resolve_device("auto")
    backbone = featlift.load_backbone(name, "random:0", **arguments)
    assert backbone.device.type == on.type
    assert backbone.dtype == DTYPES[resolve_precision("auto", on, backbone.family)]


def test_what_is_trained_has_float32_unless_asked_otherwise():
    assert featlift.load_backbone(VIT, "random:0", trainable=True, **TINY).dtype == torch.float32
    asked = featlift.load_backbone(VIT, "random:0", trainable=True, precision="bf16", **TINY)
    assert asked.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"precision": "bf61"}, ("bf61", "auto, fp32, bf16, fp16")),
        ({"device": "cuda:99"}, ("cuda:99", "cannot be used")),
        ({"device": "gpu"}, ("'gpu'", "cannot be used")),
    ],
)
def test_a_precision_or_a_device_that_is_none_is_told_before_weights_are_looked_for(how, words):
    with pytest.raises(ModelError) as refusal:
        featlift.load_backbone("vits16", "no-such-file.safetensors", **how)
    assert says(refusal, *words)


# ── published weights ───────────────────────────────────────────────────────────────────────────────────────────────

_LOAD = """
import sys
from featlift import load_backbone
from featlift.errors import WeightsError
try:
    backbone = load_backbone("vits16", embed_dim=128, depth=6, num_heads=2, mlp_ratio=2)
    print(backbone.weights["source"])
except WeightsError as error:
    print(error)
"""


def load_in_process(cache, **environment):
    """Load published weights in a process of its own, with a cache of its own and nothing at the hub's address."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD],
        env=surroundings | {"HF_HOME": str(cache), "HF_ENDPOINT": "http://127.0.0.1:9"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="no network"),
        pytest.param({"HF_HUB_OFFLINE": "1"}, id="offline", marks=pytest.mark.soak),
    ],
)
def test_without_the_hub_there_is_one_line_with_a_way_out_and_no_retrying(environment, tmp_path):
    out, err = load_in_process(tmp_path, **environment)
    assert out.count("\n") == 1
    assert "timm/vit_small_patch16_dinov3_qkvb.lvd1689m/model.safetensors" in out
    assert "--weights FILE" in out
    assert "retry" not in err.lower()


def test_what_is_in_the_cache_needs_no_hub(tmp_path):
    repository = tmp_path / "hub" / "models--timm--vit_small_patch16_dinov3_qkvb.lvd1689m"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "model.safetensors").symlink_to(GOLDEN / "weights.safetensors")
    out, _ = load_in_process(tmp_path)
    assert out == "hub:timm/vit_small_patch16_dinov3_qkvb.lvd1689m\n"


def test_a_name_without_published_weights_asks_for_a_file():
    with pytest.raises(WeightsError) as refusal:
        load_backbone("resnetblur18")
    assert says(refusal, "resnetblur18", "no hub repository", "--weights FILE")

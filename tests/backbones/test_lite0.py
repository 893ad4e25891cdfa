"""EfficientNet-Lite0 against the PyPI package that its weights were made for, on real photographs."""

import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch.testing import assert_close

from featlift.backbones.catalogue import CATALOGUE
from featlift.backbones.torchvision_guard import import_timm
from featlift.backbones.weights import load_into, read_weights
from featlift.errors import WeightsError
from tests.support.networks import load_backbone
from tests.support.tiny import build

ENTRY = CATALOGUE["efficientnet-lite0"]
TOLERANCE = {"atol": 1e-4, "rtol": 1e-5}


@pytest.fixture(scope="module")
def net():
    """timm's model, classifier included, with the package's tensors."""
    net = import_timm().create_model(ENTRY.timm_name).eval()
    load_into(net, read_weights(ENTRY.local_file()), "the package", ())
    return net


@pytest.fixture(scope="module")
def theirs():
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the package is the reference")
    path = str(ENTRY.local_file())
    return package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


@pytest.fixture(params=["flower.jpg", "china.jpg"])
def photograph(request):
    """Intensities in [0, 255], (1, 3, 224, 224)."""
    image = load_sample_image(request.param)[100:324, 200:424]
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()


def test_mean_and_std_are_the_scaling_of_the_training():
    x = np.linspace(0, 1, 256)
    for mean, std in zip(ENTRY.mean, ENTRY.std, strict=True):
        np.testing.assert_allclose((x - mean) / std, (255 * x - 127) / 128, rtol=0, atol=1e-15)


@torch.inference_mode()
def test_timm_classifies_photographs_as_the_package_does(net, theirs, photograph):
    image = (photograph - 127) / 128
    ours, expected = net(image), theirs(image)
    assert expected.softmax(-1).max() > 0.2, "the package itself should recognise something"
    assert_close(ours, expected, **TOLERANCE)
    assert ours.topk(5).indices.tolist() == expected.topk(5).indices.tolist()


@torch.inference_mode()
def test_the_backbone_gives_the_features_behind_those_classes(net, lite0, photograph):
    layers = net.forward_intermediates((photograph - 127) / 128, intermediates_only=True)
    planes, tokens = lite0.embed(lite0.normalise(photograph / 255))
    blocks = 0
    for layer, expected in zip(lite0.layers, layers, strict=True):
        for block in range(blocks, layer.after):
            planes, tokens = lite0.run_block(block, planes, tokens, None)
        blocks = layer.after
        assert_close(planes.permute(0, 3, 1, 2), expected, **TOLERANCE)
    logits = net.forward_head(net.bn2(net.conv_head(planes.permute(0, 3, 1, 2))))
    assert_close(logits, net((photograph - 127) / 128), **TOLERANCE)


def test_the_origin_of_the_weights_is_told(lite0):
    assert lite0.weights["source"] == ENTRY.source
    assert lite0.weights["sha256"].startswith(ENTRY.local_file().stem.rpartition("-")[2])  # the hash in its file name


def test_the_published_file_is_accepted_as_a_file(lite0, tmp_path):
    path = shutil.copy(ENTRY.local_file(), tmp_path / "lite0.pth")
    for name in ("efficientnet-lite0", "tf_efficientnet_lite0"):
        from_file = load_backbone(name, path)
        state, expected = from_file.state_dict(), lite0.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)
        assert from_file.weights == {"source": "file:lite0.pth", "sha256": lite0.weights["sha256"]}
        assert from_file.layers == lite0.layers


def test_the_layout_of_its_package_is_known_for_larger_relatives_too(tmp_path):
    """Names as efficientnet_pytorch has them, squeeze-and-excitation included, in any wrapper and in any order."""
    net = build("efficientnet_b0")
    places = [f"{stage}.{index}" for stage, blocks in enumerate(net.blocks) for index in range(len(blocks))]
    top = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    inner = {"conv_dw": "_depthwise_conv", "se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    first = inner | {"bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    others = inner | {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "bn2": "_bn1",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    published = {}
    for key, value in net.state_dict().items():
        module, _, kind = key.rpartition(".")
        if module.startswith("blocks."):
            _, stage, index, part = module.split(".", 3)
            names = first if stage == "0" else others
            published[f"module._blocks.{places.index(f'{stage}.{index}')}.{names[part]}.{kind}"] = value
        else:
            published[f"module.{top[module]}.{kind}"] = value
    torch.save({"state_dict": dict(reversed(published.items()))}, tmp_path / "b0.pth")
    loaded = load_backbone("efficientnet_b0", tmp_path / "b0.pth").net.state_dict()
    assert len(loaded) > 300
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in loaded.items())

    del published["module._blocks.3._se_reduce.weight"]
    torch.save({"state_dict": published}, tmp_path / "b0.pth")
    with pytest.raises(WeightsError, match=r"efficientnet-pytorch.*1 key without a value \(blocks.2.0.se.conv_reduce"):
        load_backbone("efficientnet_b0", tmp_path / "b0.pth")

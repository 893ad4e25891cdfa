"""EfficientNet-Lite0 against the PyPI package that its weights were made for, on real photographs."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch.testing import assert_close

from featlift.backbones.catalogue import CATALOGUE
from featlift.backbones.torchvision_guard import import_timm
from featlift.backbones.weights import load_in_order, read_weights
from featlift.errors import WeightsError

ENTRY = CATALOGUE["efficientnet-lite0"]
TOLERANCE = {"atol": 1e-4, "rtol": 1e-5}


@pytest.fixture(scope="module")
def net():
    """timm's model, classifier included, with the package's tensors."""
    net = import_timm().create_model(ENTRY.timm_name).eval()
    load_in_order(net, read_weights(ENTRY.local_file()), "the package")
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


@pytest.mark.parametrize("spoil", [lambda tensors: tensors[:-1], lambda tensors: tensors[::-1]])
def test_other_tensors_in_order_are_refused(net, spoil):
    tensors = spoil(list(net.state_dict().values()))
    with pytest.raises(WeightsError, match="in order"):
        load_in_order(net, {str(i): tensor for i, tensor in enumerate(tensors)}, "file")

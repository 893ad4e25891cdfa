"""Where a cell sits, measured: the centre of the pixels that move it, once the network is made linear.

Activations, norms and gates become identities, maximum pooling becomes an average, and every window gets constant
positive weights. The gradient of one cell with respect to the image then shows its receptive field.
"""

import pytest
import torch
from torch import nn

from featlift.backbones.backbone import family_of
from featlift.backbones.convolutional import ConvolutionalBackbone
from featlift.backbones.sampling import Sampling, compose, patches
from featlift.backbones.torchvision_guard import import_timm
from featlift.errors import ModelError

_HEIGHT = 2048  # holds the deepest receptive field of the networks below
_NARROW = {"channels": (8, 8, 8, 8)}
_SHALLOW = {"depths": (1, 1, 2, 1), "dims": (8, 8, 8, 8)}
_NONLINEAR = ("Norm", "GELU", "ReLU", "SiLU", "Swish", "SqueezeExcite")

#: timm's name, arguments -> expected (stride, offset) of the deepest layer.
_NETWORKS = {
    "tf_efficientnet_lite0": ({}, (32, 31.0)),  # TF-SAME: each stride puts the odd pixel at the end
    "tf_efficientnet_lite0-stride16": ({"output_stride": 16}, (16, 15.0)),
    "tf_efficientnet_cc_b0_4e": ({}, (32, 31.0)),
    "efficientnet_b0": ({}, (32, 0.0)),
    "mobilenetv2_100": ({}, (32, 0.0)),
    "resnet18": (_NARROW, (32, 0.0)),
    "resnet18-stride16": (_NARROW | {"output_stride": 16}, (16, 0.0)),
    "resnet26d": (_NARROW, (32, 0.0)),
    "resnetblur18": (_NARROW, (32, 0.0)),
    "resnet18-average": (_NARROW | {"aa_layer": nn.AvgPool2d}, (32, 15.0)),
    "convnext_tiny": (_SHALLOW, (32, 15.5)),
    "convnext_atto": (_SHALLOW, (32, 15.5)),
}


def _linear(module):
    for name, child in list(module.named_children()):
        if isinstance(child, nn.MaxPool2d):
            setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
        elif any(word in type(child).__name__ for word in _NONLINEAR):
            setattr(module, name, nn.Identity())
        else:
            _linear(child)


def _linear_backbone(name, arguments):
    net = import_timm().create_model(name.partition("-")[0], num_classes=0, **arguments)
    _linear(net)
    with torch.no_grad():
        for key, value in net.named_parameters():
            value.zero_() if key.endswith("bias") else value.fill_(1 / value[0].numel())
            if family_of(net) == "ResNet" and "downsample" in key:
                value.zero_()  # a side path may look elsewhere within the receptive field of the main path
    return ConvolutionalBackbone(net, name, (0.0,) * 3, (1.0,) * 3)


def _measured(backbone):
    """For each layer: row of an interior cell, and the centre of the image rows that move it."""
    image = torch.zeros(1, 3, _HEIGHT, 32, requires_grad=True)
    planes, tokens = backbone.embed(image)
    blocks = 0
    for layer in backbone.layers:
        for block in range(blocks, layer.after):
            planes, tokens = backbone.run_block(block, planes, tokens, None)
        blocks = layer.after
        row = planes.shape[1] // 2
        (gradient,) = torch.autograd.grad(planes[0, row].sum(), image, retain_graph=True)
        weight = gradient.double().sum((0, 1, 3))
        assert weight.sum() > 0
        assert weight[0] == weight[-1] == 0, "the receptive field reaches the border: make the image taller"
        yield layer, row, float((weight * torch.arange(_HEIGHT)).sum() / weight.sum())


@pytest.mark.parametrize("name", _NETWORKS)
def test_cells_sit_where_their_receptive_field_is_centred(name):
    arguments, deepest = _NETWORKS[name]
    backbone = _linear_backbone(name, arguments)
    for layer, row, centre in _measured(backbone):
        assert centre == pytest.approx(layer.sampling.offset + layer.sampling.stride * row, abs=1e-3), layer.name
    assert backbone.layers[-1].sampling == Sampling(*deepest)


def test_the_measure_tells_wrong_arithmetic():
    """In a TF-SAME network neither the middle of a stride block nor symmetric padding gives the place of a cell."""
    for layer, row, centre in _measured(_linear_backbone("tf_efficientnet_lite0", {})):
        stride = layer.sampling.stride
        assert abs(centre - (stride * row + (stride - 1) / 2)) > 0.4
        assert abs(centre - stride * row) > 0.4


def test_patches_are_centred_on_their_block():
    assert patches(16) == Sampling(16, 7.5)
    assert patches(14) == Sampling(14, 6.5)
    assert compose(Sampling(), [nn.Conv2d(3, 4, 16, 16), nn.GELU()]) == patches(16)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Conv2d(1, 1, (3, 5)), "rows and columns"),
        (nn.Conv2d(1, 1, 3, stride=(2, 1)), "rows and columns"),
        (nn.Conv2d(1, 1, 3, padding="same"), "padding='same'"),
    ],
)
def test_windows_whose_cells_have_no_known_place_are_refused(module, words):
    with pytest.raises(ModelError, match=words):
        compose(Sampling(), [module])

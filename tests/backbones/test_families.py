"""Every family against timm's own forward: with HW planes only, lifting is the 2D network slice by slice."""

from typing import Any, NamedTuple

import pytest
import torch
from torch.testing import assert_close

from featlift import lift
from featlift.errors import LiftingError
from tests.support.networks import load_backbone
from tests.support.tiny import TINY, build, save

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
REGISTERS = tuple(f"reg{i}" for i in range(4))


class Case(NamedTuple):
    """A small model, its global tokens and an image that is neither square nor of the model's own size."""

    name: str
    arguments: dict[str, Any]
    tokens: tuple[str, ...] = ()
    image: tuple[int, int] = (64, 96)


def _transformer(name, *tokens, patch=16, **arguments):
    return Case(name, TINY | arguments, tokens, (3 * patch, 5 * patch))


_ATTENTION = (
    _transformer("vit_tiny_patch16_224", "cls"),
    _transformer("vit_wee_patch16_reg1_gap_256", "reg0"),
    _transformer("vit_base_patch16_siglip_224", img_size=160),
    _transformer("vit_base_patch16_clip_224", "cls"),
    _transformer("deit_tiny_distilled_patch16_224", "cls", "dist"),
    _transformer("vit_small_patch14_dinov2", "cls", patch=14, img_size=112),
    _transformer("vit_small_patch14_reg4_dinov2", "cls", *REGISTERS, patch=14, img_size=112),
    _transformer("eva02_tiny_patch14_224", "cls", patch=14),
    _transformer("vit_small_patch16_rope_mixed_ape_224", "cls"),
    _transformer("vit_small_patch16_dinov3_qkvb", "cls", *REGISTERS),
    _transformer("vit_small_plus_patch16_dinov3_qkvb", "cls", *REGISTERS),
)
_CONVOLUTION = (
    Case("convnext_atto", {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}),
    Case("convnext_tiny", {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "head_norm_first": True}),
    Case("resnet18", {"channels": (8, 16, 24, 32)}),
    Case("resnet26d", {"channels": (8, 16, 24, 32)}),
    Case("resnetblur18", {"channels": (8, 16, 24, 32)}),
    Case("efficientnet_b0", {}),
    Case("tf_efficientnet_lite0", {}),
)


def _named(cases):
    return [pytest.param(case, id=case.name) for case in cases]


def _layers_of(net, slices):
    """Dense maps and global tokens of every layer by timm's own forward, final norm applied."""
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    tokens = {"return_prefix_tokens": True} if hasattr(net, "patch_embed") else {}
    with torch.inference_mode():
        layers = net.forward_intermediates((slices - mean) / std, norm=True, intermediates_only=True, **tokens)
        if hasattr(net, "stages") and isinstance(net.norm_pre, torch.nn.Identity):
            layers[-1] = net.head.norm(layers[-1])  # ConvNeXt's final norm, which timm applies after its pooling
    return [
        layer if isinstance(layer, tuple) else (layer, layer.new_empty(len(layer), 0, layer.shape[1]))
        for layer in layers
    ]


def _both(case, folder, **theirs):
    """The network as timm builds it and as a backbone, with the same weights, both in float64."""
    net = build(case.name, **case.arguments | theirs)
    path = save(net.state_dict(), folder / "weights.safetensors")
    periods = "fp32" if "dinov3" in case.name else "auto"
    return net.double(), load_backbone(case.name, path, rope_periods=periods, **case.arguments).double()


@pytest.mark.parametrize("case", _named(_ATTENTION + _CONVOLUTION))
def test_hw_planes_give_the_2d_network_slice_by_slice(case, tmp_path):
    net, backbone = _both(case, tmp_path, **{"dynamic_img_size": True} if case in _ATTENTION else {})
    volume = torch.rand(1, 1, 3, *case.image, dtype=torch.float64)
    theirs = _layers_of(net, volume[0].transpose(0, 1))
    features = lift(backbone, mode="pcg", cycle="HW", layers=range(len(backbone.layers)))(volume)

    assert backbone.token_names == case.tokens
    assert len(theirs) == len(features.layers) == len(backbone.layers)
    for layer, (dense, tokens) in zip(backbone.layers, theirs, strict=True):
        assert dense.shape[1:] == (layer.channels, *(n // layer.sampling.stride for n in case.image))
        assert_close(features.layers[layer.index].dense[0].transpose(0, 1), dense, **TOLERANCE)
        assert_close(features.layers[layer.index].tokens[0], tokens, **TOLERANCE)


@pytest.mark.parametrize("case", _named(_ATTENTION))
def test_accepting_any_size_changes_nothing_at_the_models_own(case, tmp_path):
    case = case._replace(arguments=case.arguments | {"img_size": case.image})
    net, backbone = _both(case, tmp_path)
    volume = torch.rand(1, 1, 1, *case.image, dtype=torch.float64)
    dense, tokens = _layers_of(net, volume[0].transpose(0, 1))[-1]
    features = lift(backbone, mode="2d")(volume)
    assert_close(features.dense[:, :, 0], dense, **TOLERANCE)
    assert_close(features.tokens[:, 0], tokens, **TOLERANCE)


@pytest.mark.parametrize("case", _named(_ATTENTION + _CONVOLUTION))
def test_mode_3d_needs_the_rope_of_dinov3(case):
    arguments = case.arguments | ({"num_heads": 1, "embed_dim": 64} if case in _ATTENTION else {})
    backbone = load_backbone(case.name, "random:0", **arguments)
    if "dinov3" in case.name:
        assert lift(backbone, mode="3d").mode == "3d"
    else:
        with pytest.raises(LiftingError, match=case.name):
            lift(backbone, mode="3d")

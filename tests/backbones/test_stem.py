"""Grey slices through one folded convolution: the same patches as three channels, normalised."""

import pytest
import torch
from torch.testing import assert_close

from featlift.backbones.backbone import Backbone
from tests.support.networks import load_backbone

NETWORKS = {"vits16": {"depth": 1}, "vit_tiny_patch16_224": {"depth": 1}, "convnext_atto": {}, "resnet18": {}}


@pytest.mark.parametrize("name", NETWORKS)
def test_grey_slices_embed_as_three_normalised_channels(name):
    backbone = load_backbone(name, "random:0", **NETWORKS[name])
    with torch.no_grad():
        for bias in (p for n, p in backbone.net.named_parameters() if n.endswith("bias")):
            bias.normal_()
        grey = torch.rand(2, 1, 64, 96)
        want, tokens = backbone.embed(backbone.normalise(grey))
        got, got_tokens = backbone.embed_intensities(grey)
    assert_close(got, want, atol=2e-5, rtol=1e-5)
    assert_close(got_tokens, tokens, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "folds"), [("vits16", True), ("convnext_atto", True), ("resnet18", False)])
def test_patches_take_one_channel_and_padded_stems_three(name, folds):
    backbone = load_backbone(name, "random:0", **NETWORKS[name])
    convolutions = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, given: convolutions.append(given[0].shape[1]) if isinstance(module, torch.nn.Conv2d) else None
    )
    with hook, torch.no_grad():
        backbone.embed_intensities(torch.rand(1, 1, 64, 64))
    assert convolutions[0] == (1 if folds else 3)


def test_bfloat16_loses_no_more_than_before():
    """The folded weights stay in float32: rounding them would cost more than rounding normalised intensities."""
    exact = load_backbone("vits16", "random:0", depth=1)
    rounded = load_backbone("vits16", "random:0", depth=1).to(torch.bfloat16)
    grey = 0.4 + 0.2 * torch.rand(4, 1, 64, 64)
    with torch.no_grad():
        want = exact.embed(exact.normalise(grey))[0]
        unfolded = Backbone.embed_intensities(rounded, grey)[0].float()
        folded = rounded.embed_intensities(grey)[0].float()
    assert (folded - want).abs().mean() < 1.05 * (unfolded - want).abs().mean()


def test_weights_that_are_trained_are_reached():
    backbone = load_backbone("vits16", "random:0", depth=1, trainable=True)
    backbone.embed_intensities(torch.rand(1, 1, 32, 32))[0].square().sum().backward()
    assert backbone.net.patch_embed.proj.weight.grad.abs().sum() > 0

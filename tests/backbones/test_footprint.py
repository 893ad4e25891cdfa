"""The memory that a block is said to take is what it takes."""

import pytest
import torch

from featlift.backbones.footprint import PeakMemory
from tests.support.networks import load_backbone


def test_peak_counts_what_is_held_at_once():
    given = torch.zeros(1000)
    with PeakMemory() as memory:
        a = given + 1
        b = a.view(10, 100) * 2
        del a
        c = b + 1
        del b, c
        d = given.double()
    assert memory.peak == 8000
    assert d.nbytes == 8000


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vits16", {"depth": 2}),
        ("vits16plus", {"depth": 2}),
        ("vit_tiny_patch16_224", {"depth": 2}),
        ("efficientnet-lite0", {}),
        ("convnext_atto", {}),
        ("resnet18", {}),
    ],
)
def test_footprints_hold_at_other_sizes(name, arguments):
    backbone = load_backbone(name, None if name == "efficientnet-lite0" else "random:0", **arguments)
    with torch.no_grad():
        given = torch.rand(3, 3, 192, 256)
        planes, tokens = backbone.embed(given)
        for index, footprint in enumerate(backbone.footprints):
            rope = backbone.rope(index, *planes.shape[1:3])
            before = planes.nbytes
            with PeakMemory() as memory:
                planes, tokens = backbone.run_block(index, planes, tokens, rope)
            assert 0.7 < footprint.peak * before / (before + memory.peak) < 1.4
            assert footprint.result == pytest.approx(planes.nbytes / before, rel=0.01)

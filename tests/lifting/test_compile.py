"""Compiled blocks: the same features, and one graph for every block and shape."""

import pytest
import torch
from torch._dynamo.utils import counters
from torch.testing import assert_close

from featlift import lift
from featlift.errors import LiftingError
from tests.support.networks import load_backbone


def test_blocks_compile_twice_at_most(monkeypatch):
    """One graph for any number and size of planes, one for a single plane, whatever block: `eager` compiles fast."""
    how = {"depth": 8, "embed_dim": 64, "num_heads": 1, "init_values": 0.5}
    plain, compiled = (load_backbone("vits16", "random:0", **how) for _ in range(2))
    torch._dynamo.reset()
    counters.clear()
    compiled.compile_blocks(backend="eager")
    for shape in [(3, 32, 48), (5, 64, 32), (1, 32, 32), (7, 48, 80), (9, 80, 80)]:
        volume = torch.rand(1, 1, *shape)
        assert_close(lift(compiled)(volume).dense, lift(plain)(volume).dense, atol=5e-5, rtol=1e-5)
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


def test_lift_asks_for_it(monkeypatch):
    backbone = load_backbone("vits16", "random:0", depth=2, embed_dim=64, num_heads=1)
    asked = []
    for block in backbone.blocks:
        monkeypatch.setattr(block, "compile", lambda **how: asked.append(how))
    lift(backbone)
    assert not asked
    lift(backbone, compile=True)
    assert asked == [{"backend": "inductor", "dynamic": True}] * 2


def test_only_transformers(lite0):
    with pytest.raises(LiftingError, match="only the blocks of transformers"):
        lift(lite0, compile=True)

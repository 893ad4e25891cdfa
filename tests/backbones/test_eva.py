"""Eva blocks in fewer passes: the same numbers as timm's, from less work."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from featlift import lift
from featlift.backbones import turning
from featlift.backbones.eva import make_lean
from featlift.backbones.torchvision_guard import import_timm
from tests.support.networks import load_backbone

timm = import_timm()


def dinov3(**arguments):
    torch.manual_seed(0)
    small = {"embed_dim": 96, "depth": 2, "num_heads": 3, "init_values": 0.5} | arguments
    net = timm.create_model("vit_small_patch16_dinov3", pretrained=False, dynamic_img_size=True, **small).eval()
    for block in net.blocks:
        if block.attn.q_bias is not None:
            torch.nn.init.normal_(block.attn.q_bias)
            torch.nn.init.normal_(block.attn.v_bias)
    return net


def given(net, dtype=torch.float32):
    rope = net.rope.get_embed(shape=(5, 7))
    return torch.randn(2, 35 + net.num_prefix_tokens, net.embed_dim, dtype=dtype), rope


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("arguments", [{}, {"qkv_bias": True}, {"init_values": None}, {"embed_dim": 72}])
@torch.no_grad()
def test_a_lean_block_computes_what_timms_does(arguments, dtype):
    net = dinov3(**arguments).to(dtype)
    x, rope = given(net, dtype)
    block = net.blocks[1]
    want = copy.deepcopy(block)(x, rope=rope)
    before = x.clone()
    assert make_lean(block)
    got = block(x, rope=rope)
    assert torch.equal(x, before)
    if dtype == torch.float32:
        torch.testing.assert_close(got, want, atol=2e-6, rtol=2e-6)
    else:
        assert torch.cosine_similarity(got.float(), want.float(), dim=-1).min() > 0.9999


@torch.no_grad()
def test_wider_values_stay_as_wide():
    net = dinov3().double()
    x, rope = given(net, torch.float64)
    want = copy.deepcopy(net.blocks[1])(x, rope=rope)
    assert make_lean(net.blocks[1])
    torch.testing.assert_close(net.blocks[1](x, rope=rope), want, atol=1e-12, rtol=1e-12)


def test_with_gradients_it_is_timms_own():
    net = dinov3()
    x, rope = given(net)
    theirs, ours = net.blocks[0], copy.deepcopy(net.blocks[0])
    make_lean(ours)
    assert torch.equal(theirs(x, rope=rope), ours(x, rope=rope))
    ours(x, rope=rope).sum().backward()
    assert ours.attn.qkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("eva02_tiny_patch14_224", {}),  # pairs of neighbours, SwiGLU
        ("vit_small_patch16_dinov3", {"qk_norm": True}),
        ("vit_small_patch16_dinov3", {"drop_path_rate": 0.1}),
        ("vit_small_patch16_rope_mixed_224", {}),
        ("vit_tiny_patch16_224", {}),
    ],
)
def test_blocks_of_other_kinds_stay_timms(model, arguments):
    if "eva02" in model or "dinov3" in model:
        arguments = {"embed_dim": 96, "depth": 2, "num_heads": 3} | arguments
    net = timm.create_model(model, pretrained=False, **arguments)
    assert not make_lean(net.blocks[1])


def test_a_lean_block_keeps_its_weights_names_and_can_be_copied_and_sent():
    net = dinov3()
    names = list(net.state_dict())
    make_lean(net.blocks[0])
    assert list(net.state_dict()) == names
    x, rope = given(net)
    with torch.no_grad():
        want = net.blocks[0](x, rope=rope)
        for other in (copy.deepcopy(net.blocks[0]), pickle.loads(pickle.dumps(net.blocks[0]))):
            assert torch.equal(other(x, rope=rope), want)


class Work(TorchDispatchMode):
    """Launches, and bytes that they read and wrote, views aside; the kernel that turns declares its own."""

    def __init__(self):
        super().__init__()
        self.launches, self.bytes = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.is_view or func.overloadpacket in (torch.ops.aten._unsafe_view, torch.ops.aten._reshape_alias):
            return result
        self.launches += 1
        moved = torch.utils._pytree.tree_leaves((args, kwargs, result))
        self.bytes += sum(each.numel() * each.itemsize for each in moved if isinstance(each, torch.Tensor))
        return result


@torch.no_grad()
def test_a_block_moves_half_of_what_timms_does(monkeypatch):
    """A is the bytes of the tokens; a Triton kernel reads q and k and writes them: 4 A, in one launch."""
    net = dinov3(embed_dim=384, num_heads=6).bfloat16()
    x = torch.randn(4, 1024 + net.num_prefix_tokens, 384, dtype=torch.bfloat16)
    rope = net.rope.get_embed(shape=(32, 32))
    block = net.blocks[0]
    theirs, ours = copy.deepcopy(block), block
    make_lean(ours)

    def work_of(block):
        with Work() as work:
            block(x, rope=rope)
        return work.launches, work.bytes / x.nbytes

    launches, moved = work_of(theirs)
    assert moved > 80
    monkeypatch.setattr("featlift.backbones.eva.turn", lambda *_: None)
    lean_launches, lean_moved = work_of(ours)
    print(launches, moved, lean_launches + 1, lean_moved + 4)
    assert lean_launches + 1 <= 18
    assert lean_moved + 4 <= 52


def test_the_embedding_of_planes_is_kept_until_the_periods_change():
    backbone = load_backbone("vits16", "random:0", embed_dim=96, depth=2, num_heads=3)
    with torch.no_grad():
        once = backbone.rope(0, 3, 5)
        assert backbone.rope(1, 3, 5) is once
        backbone.net.rope.periods = backbone.net.rope.periods * 2
        assert not torch.equal(backbone.rope(0, 3, 5), once)
        for rows in range(2, 12):
            backbone.rope(0, rows, 5)
        assert len(backbone._ropes._kept) == 4
    with torch.enable_grad():
        assert backbone.rope(0, 3, 5) is not backbone.rope(0, 3, 5)


def test_a_stem_is_folded_again_when_its_weights_change():
    backbone = load_backbone("vits16", "random:0", embed_dim=96, depth=2, num_heads=3)
    volume = torch.rand(1, 1, 2, 32, 32)
    lifted = lift(backbone)
    first = lifted(volume).dense
    with torch.no_grad():
        backbone.net.patch_embed.proj.weight.mul_(2)
    second = lifted(volume).dense
    assert not torch.equal(first, second)
    again = lift(copy.deepcopy(backbone))(volume).dense
    torch.testing.assert_close(second, again)


KERNEL = """
    import torch
    from featlift.backbones.turning import turn_plainly
    from featlift.backbones.turning_kernel import turn_in_place
    for heads, width, dtype in ((6, 64, torch.float32), (3, 24, torch.float32), (12, 64, torch.bfloat16)):
        qkv = torch.randn(2, 9, 3, heads, width).to(dtype)
        rope = torch.randn(8, 2 * width)
        tables = rope[:, : width // 2], rope[:, width : width + width // 2]
        want, got = qkv.clone(), qkv.clone()
        turn_plainly(want, *tables, 1)
        turn_in_place(got, *tables, 1)
        assert torch.equal(got[:, :1], qkv[:, :1]) and torch.equal(got[:, :, 2], qkv[:, :, 2])
        step = 2**-7 if dtype == torch.bfloat16 else 1e-6
        assert ((got - want).abs() <= step * (1 + want.abs())).all()
"""


def test_the_kernel_turns_as_torch_does():
    """In Triton's interpreter, on any machine that has Triton."""
    pytest.importorskip("triton", reason="Triton comes with torch for CUDA")
    run = [sys.executable, "-c", textwrap.dedent(KERNEL)]
    subprocess.run(run, env={**os.environ, "TRITON_INTERPRET": "1"}, check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_turns_with_the_kernel(dtype):
    assert turning._kernel() is not turning.turn_plainly
    qkv = torch.randn(5, 40, 3, 12, 64, device="cuda").to(dtype)
    rope = torch.randn(35, 128, device="cuda")
    want = qkv.float()
    turning.turn_plainly(want, rope[:, :32], rope[:, 64:96], 5)
    turning.turn(qkv, rope, 5)
    step = {torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}[dtype]
    assert ((qkv.float() - want).abs() <= step * (1 + want.abs())).all()

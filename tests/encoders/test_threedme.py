"""3DME: its equations are those of reference arrays; its branches hear of each other; it is kept and read as it was."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from featlift.encoders.threedme import Pretrained, ThreeDME, ThreeDMEConfig, read_encoder, write_encoder
from featlift.encoders.threedme.deformable import DeformableAttention, cells, directions, sampled
from featlift.encoders.threedme.position import position_codes
from featlift.errors import InputError, LiftingError, ModelError, StoreError

GOLDEN = np.load(Path(__file__).parents[1] / "golden/systems/3dme.npz")
SMALL = {"size": 16, "width": 24, "depth": 2, "heads": 2, "fuse_after": (1, 2), "deformable_heads": 2}
SMALL |= {"convolutions": (4, 6, 8)}


def golden(name):
    return torch.from_numpy(GOLDEN[name]).double()


def small(seed=0, **changes):
    torch.manual_seed(seed)
    return ThreeDME(ThreeDMEConfig(**(SMALL | changes)))


def volume(*shape, seed=0):
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


def stirred(network, seed=0):
    """The network with offsets and weights that depend on the query, as after training."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, DeformableAttention):
            torch.nn.init.normal_(module.offsets.weight, std=0.3)
            torch.nn.init.normal_(module.weights.weight, std=0.3)
    return network


def test_position_codes_are_those_of_the_reference():
    torch.testing.assert_close(position_codes((4, 4, 4), 48), golden("position/4x4x4x48"), atol=1e-6, rtol=0)
    torch.testing.assert_close(position_codes((2, 3, 5), 36), golden("position/uneven"), atol=1e-6, rtol=0)
    places = GOLDEN["position/tokens"]
    found = position_codes((16, 16, 16), 768)[tuple(places.T)]
    torch.testing.assert_close(found, golden("position/16x16x16x768_at_tokens"), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("kind", "distinct"), [("sum", 816), ("axes", 4096)])
def test_codes_of_places_collide_as_written_and_not_with_channels_for_each_axis(kind, distinct):
    codes = position_codes((16, 16, 16), 768, kind).flatten(0, 2)
    assert len(np.unique(codes.numpy().round(9), axis=0)) == distinct


@pytest.mark.parametrize(("case", "padding"), list(product(("heads", "one_head"), ("zeros", "border"))))
def test_deformable_attention_is_that_of_the_reference(case, padding):
    values, mixing, points = golden("deform/V")[None], golden("deform/W"), golden("deform/points")
    offsets, logits = golden("deform/offsets"), golden("deform/weight_logits")
    if case == "one_head":
        offsets, logits = offsets[:, :1], logits[:, :1]
    given = [each.clone().requires_grad_() for each in (values, offsets, logits, mixing)]
    places = (points[:, None, None] + given[1])[None]
    out = sampled(given[0], places, given[2].softmax(dim=-1)[None], padding)[0] @ given[3].T
    torch.testing.assert_close(out, golden(f"deform/{case}/{padding}"), atol=1e-4, rtol=0)
    if case == "one_head":
        return
    (out * golden("deform/cotangent")).sum().backward()
    for name, each in zip(("V", "offsets", "weight_logits", "W"), given, strict=True):
        want, found = (
            golden(f"deform/heads/{padding}/grad/{name}"),
            each.grad.reshape(GOLDEN[f"deform/heads/{padding}/grad/{name}"].shape),
        )
        if name == "offsets":  # they jump at whole positions, the border among them
            smooth = ((places[0] - places[0].round()).abs() > 1e-3).all(dim=-1)
            assert smooth.float().mean() > 0.5
            want, found = want[smooth], found[smooth]
        torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-5)


def test_float32_places_are_precise_enough():
    values, points = golden("deform/V")[None].float(), golden("deform/points").float()
    places = (points[:, None, None] + golden("deform/offsets").float())[None]
    out = sampled(values, places, golden("deform/weight_logits").float().softmax(dim=-1)[None])[0].double()
    torch.testing.assert_close(out @ golden("deform/W").T, golden("deform/heads/zeros"), atol=1e-4, rtol=0)


def test_a_head_begins_on_a_ray_of_its_own():
    attention = DeformableAttention(16, heads=8, points=3, offset_scale=2.0, padding="zeros")
    attention.start()
    offsets = attention.offsets(torch.randn(16)).reshape(8, 3, 3) * attention.offset_scale
    reach = offsets.abs().amax(dim=-1)
    torch.testing.assert_close(reach, torch.tensor([1.0, 2.0, 3.0]).expand(8, 3))
    rays = torch.nn.functional.normalize(directions(8), dim=-1)
    assert (rays @ rays.T - 2 * torch.eye(8)).max() < 0.8  # no two look the same way
    assert rays.mean(dim=0).norm() < 0.15


def test_what_lies_at_a_place_is_found_there():
    """A query whose offset is the way to a bright cell finds it: axes and their order are those of the volume."""
    values = torch.zeros(1, 2, 4, 5, 6)
    values[0, :, 1, 4, 2] = torch.tensor([3.0, -1.0])
    points = cells((4, 5, 6), torch.device("cpu"))
    places = torch.tensor([1.0, 4.0, 2.0]).expand(1, len(points), 1, 1, 3)
    found = sampled(values, places, torch.ones(1, len(points), 1, 1))
    torch.testing.assert_close(found, torch.tensor([3.0, -1.0]).expand(1, len(points), 2))
    half = places + torch.tensor([0.0, 0.0, 0.25])
    torch.testing.assert_close(sampled(values, half, torch.ones(1, len(points), 1, 1)), 0.75 * found)


@pytest.mark.parametrize("shape", [(16, 16, 16), (8, 24, 40), (32, 16, 16)])
def test_stages_and_tokens_of_volumes_of_other_sizes(shape):
    network = small().eval()
    grid = tuple(size // 8 for size in shape)
    found = network(volume(*shape), 1)
    assert [tuple(each.shape) for each in found] == [(1, 24, *grid)] * 2
    torch.testing.assert_close(network(volume(*shape), 0)[0], found[0])
    tokens = network.tokens(volume(*shape))
    assert tuple(tokens.shape) == (1, np.prod(grid), 24)
    torch.testing.assert_close(tokens.transpose(1, 2).reshape(found[1].shape), found[1])
    assert network.position(grid).shape == tokens.shape[1:]
    with pytest.raises(LiftingError, match="multiples of 8"):
        network(volume(16, 16, 20), 1)
    with pytest.raises(LiftingError, match="1, D, H, W"):
        network(torch.rand(1, 3, 16, 16, 16), 1)


def test_a_patch_is_where_its_layer_says():
    """The embedding of a cell hears of its own patch alone, whose middle is offset + stride i."""
    network = small()
    given = volume(16, 24, 32).requires_grad_()
    network.patches(given)[0, :, 1, 2, 3].square().sum().backward()
    felt = torch.nonzero(given.grad[0, 0]).double()
    middle = (felt.amin(dim=0) + felt.amax(dim=0)) / 2
    for layer in network.layers:
        want = [o + s * i for o, s, i in zip(layer.offset, layer.stride, (1, 2, 3), strict=True)]
        assert middle.tolist() == want


def test_every_stage_hears_of_both_branches():
    """Without the tokens' patches what is left comes through the convolutions, and the other way."""
    network = stirred(small()).eval()
    for silent in ("patches", "convolutions"):
        given = volume(48, 48, 48).requires_grad_()
        hook = getattr(network, silent).register_forward_hook(lambda module, given, found: found.detach())
        for stage in network(given, 1):
            (grad,) = torch.autograd.grad(stage.square().sum(), given, retain_graph=True)
            assert (grad != 0).float().mean() > 0.5, silent
        hook.remove()


def test_checkpointing_changes_no_gradient():
    found = []
    for checkpointing in (False, True):
        network = stirred(small()).train()
        network.checkpointing = checkpointing
        loss = sum(stage.square().mean() for stage in network(volume(16, 16, 24), 1))
        loss.backward()
        found.append({name: value.grad for name, value in network.named_parameters()})
        statistics = {name: value.clone() for name, value in network.named_buffers()}
        found.append(statistics)
    plain, of_plain, kept, of_kept = found
    assert all(value is not None and value.abs().max() > 0 for value in plain.values())
    torch.testing.assert_close(kept, plain)
    torch.testing.assert_close(of_kept, of_plain)


def test_half_precisions_sample_where_float32_does():
    network = stirred(small()).eval()
    want = network(volume(16, 16, 16), 1)[-1]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(volume(16, 16, 16), 1)[-1]
    for found in (mixed, network.bfloat16()(volume(16, 16, 16).bfloat16(), 1)[-1]):
        close = torch.nn.functional.cosine_similarity(found.float().flatten(2), want.flatten(2), dim=1)
        assert close.min() > 0.99


def test_sizes_of_the_paper():
    with torch.device("meta"):
        network = ThreeDME(ThreeDMEConfig.base())
    assert sum(value.numel() for value in network.blocks.parameters()) == 12 * 7_087_872  # a ViT-B's
    assert network.grid(torch.empty(1, 1, 128, 128, 128, device="meta")) == (16, 16, 16)
    (shallow, *_, deep) = network(torch.empty(1, 1, 128, 128, 128, device="meta"), 3)
    assert tuple(deep.shape) == tuple(shallow.shape) == (1, 768, 16, 16, 16)
    assert tuple(network.convolutions[:9](torch.empty(1, 1, 128, 128, 128, device="meta")).shape) == (
        1,
        256,
        16,
        16,
        16,
    )


def test_a_folder_gives_back_what_was_written(tmp_path):
    network = stirred(small(position="axes", points=3, padding="border"))
    network.train()(volume(16, 16, 16), 1)  # moves the statistics of the batch norms
    preparation = {"spacing": [1.0, 1.0, 1.0], "intensity": "minmax"}
    write_encoder(tmp_path / "net", network, Pretrained(network.config.to_json(), preparation))
    again, said = read_encoder(tmp_path / "net")
    assert said.preparation == preparation
    assert again.config == network.config
    torch.testing.assert_close(again(volume(16, 16, 16), 1), network.eval()(volume(16, 16, 16), 1), atol=0, rtol=0)

    path = tmp_path / "net/config.json"
    document = json.loads(path.read_text())
    document["encoder"]["depth"] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="fuse_after"):
        read_encoder(tmp_path / "net")
    document["encoder"] |= {"depth": 2, "width": 48}
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="another network"):
        read_encoder(tmp_path / "net")
    path.unlink()
    with pytest.raises(InputError, match="featlift pretrain 3dme"):
        read_encoder(tmp_path / "net")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch": 4}, "patches of 4"),
        ({"size": 20}, "size 20"),
        ({"heads": 5}, "multiple of heads"),
        ({"width": 28, "position": "axes"}, "sine and cosine"),
        ({"fuse_after": (1,)}, "the last is depth"),
        ({"fuse_after": (2, 1, 2)}, "rising"),
        ({"points": 0}, "points 0"),
        ({"position": "learned"}, "choose one of sum, axes"),
    ],
)
def test_sizes_that_make_no_network_are_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        ThreeDMEConfig(**(SMALL | changes))

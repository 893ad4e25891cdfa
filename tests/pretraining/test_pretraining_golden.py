"""Masks and losses of 3DME: reference numbers of a second implementation in float64."""

import json

import numpy as np
import pytest
import torch

from featlift.errors import OptionError
from featlift.pretraining.losses import edges, reconstruction, semantic, sobel
from featlift.pretraining.masking import STAGES, Stage, drawn_mask, mask_of, parse_stages, rounds_of
from tests.conftest import GOLDEN

RATIOS = {4: 0.3, 8: 0.45, 12: 0.6, 16: 0.75}


@pytest.fixture(scope="module")
def theirs():
    return dict(np.load(GOLDEN / "systems" / "3dme.npz"))


@pytest.fixture(scope="module")
def numbers():
    return json.loads((GOLDEN / "systems" / "3dme.json").read_text())


def volume(values):
    return torch.from_numpy(values)[:, None] if values.dtype == bool else torch.from_numpy(values).double()[:, None]


@pytest.fixture(scope="module")
def given(theirs):
    """Output, target and mask; features of output and of target."""
    features = (torch.from_numpy(theirs[f"loss/features_{name}"]).double() for name in ("output", "target"))
    return *(volume(theirs[f"loss/{name}"]) for name in ("output", "target", "mask")), *features


def test_losses(given, numbers):
    output, target, mask, seen, wanted = given
    found = {
        "rec": reconstruction(output, target, mask),
        "sem": semantic(seen, wanted, mask),
        "edge": edges(output, target, "sums"),
        "edge_squares": edges(output, target),
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(numbers["loss"][name], abs=1e-6), name
    assert float(edges(target, target)) == pytest.approx(0, abs=1e-6)
    twice = edges(2 * target, target, "sums")
    assert float(twice) == pytest.approx(numbers["loss_of_output_twice_the_target"]["edge"], abs=1e-6)
    assert twice < edges(target, target, "sums"), "the paper's equation is no distance"


def test_gradients(given, theirs):
    output, target, mask, seen, wanted = given
    ends = output.clone().requires_grad_(), seen.clone().requires_grad_()
    loss = 0.7 * reconstruction(ends[0], target, mask) + 0.2 * semantic(ends[1], wanted, mask)
    (loss + 0.1 * edges(ends[0], target, "sums")).backward()
    for name, value in zip(("output", "features_output"), ends, strict=True):
        reference = theirs[f"loss/grad_of_total/{name}"]
        ours = value.grad.numpy().reshape(reference.shape)
        assert np.abs(ours - reference).max() < 1e-4 * np.abs(reference).max(), name


def test_sobel(given, theirs):
    for values, name in zip(given, ("output", "target"), strict=False):
        assert np.abs(sobel(values)[:, 0].numpy() - theirs[f"loss/sobel_magnitude_{name}"]).max() < 1e-6
    ramp = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(1, 1, 6, 5, 4)
    assert torch.allclose(sobel(ramp)[:, :, 1:-1], torch.ones(()), atol=1e-6), "a slope of 1 a voxel"


def test_features_of_coarse_cells(given):
    """Each masked voxel has the features of its cell: as if they were repeated for all of its voxels."""
    rng = torch.Generator().manual_seed(0)
    one, other = (torch.rand(2, 3, 4, 2, 3, generator=rng) for _ in range(2))
    mask = torch.rand(2, 1, 8, 12, 9, generator=rng) < 0.4
    repeated = [
        values.repeat_interleave(2, 2).repeat_interleave(6, 3).repeat_interleave(3, 4) for values in (one, other)
    ]
    assert float(semantic(one, other, mask)) == pytest.approx(float(semantic(*repeated, mask)), abs=1e-6)


@pytest.mark.parametrize("cube", RATIOS)
def test_masks(theirs, cube):
    order, wanted = theirs[f"mask/{cube}/order"], theirs[f"mask/{cube}/mask"]
    assert np.array_equal(mask_of(order, Stage(cube, RATIOS[cube], 1), wanted.shape), wanted)


def test_shares_of_the_paper_s_masks(numbers):
    draw = np.random.default_rng(0)
    for stage, wanted in zip(parse_stages(STAGES), numbers["mask_128"], strict=True):
        assert (stage.cube, stage.ratio) == (wanted["block"], wanted["ratio"])
        for _ in range(3):
            assert drawn_mask(stage, (128, 128, 128), draw).mean() == pytest.approx(stage.ratio, abs=0.01)
    masks = [drawn_mask(Stage(12, 0.6, 1), (64, 64, 64), draw).mean() for _ in range(200)]
    assert np.mean(masks) == pytest.approx(0.6, abs=0.01), "where cubes are clipped, over many draws"


def test_stages():
    assert [stage.length for stage in parse_stages(STAGES)] == [0.25] * 4
    first, second = parse_stages("4:0.3:1,16:0.75:3")
    assert (first.length, second.length) == (0.25, 0.75)
    assert rounds_of(parse_stages(STAGES), 40) == [10, 20, 30, 40]
    assert rounds_of(parse_stages("16:0.75"), 7) == [7]
    with pytest.raises(OptionError, match="lasts none of 3 rounds"):
        rounds_of(parse_stages(STAGES), 3)
    for wrong in ("", "4", "4:0.3,8:0.4:2", "4.5:0.3", "4:1.3", "4:0.3:0", "a:b"):
        with pytest.raises(OptionError, match="stages"):
            parse_stages(wrong)

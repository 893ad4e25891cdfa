"""Depth in windows: every slice once in sum, and no windows where one is enough."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from featlift import lift
from featlift.errors import LiftingError
from featlift.lifting.windows import depth_windows, fades

CASES = [(d, n, m) for d, n in itertools.product((1, 5, 16, 33, 100), (1, 2, 5, 8, 40)) for m in (0, 1, n // 2, n - 1)]


@pytest.mark.parametrize(("depth", "length", "overlap"), [case for case in CASES if case[2] < case[1]])
def test_windows_cover_the_depth(depth, length, overlap):
    windows = depth_windows(depth, length, overlap)
    assert windows[0].start == 0
    assert windows[-1].stop == depth
    assert all(window.stop - window.start == min(length, depth) for window in windows)
    assert all(a.stop - b.start >= overlap for a, b in itertools.pairwise(windows))
    total = torch.zeros(depth)
    for window, weight in zip(windows, fades(windows, overlap), strict=True):
        assert (weight > 0).all()
        total[window] += weight
    assert_close(total, torch.ones(depth))


def test_the_fade_is_linear():
    first, second = fades(depth_windows(9, 6, 3), 3)
    assert_close(first, torch.tensor([1, 1, 1, 0.75, 0.5, 0.25]))
    assert_close(second, torch.tensor([0.25, 0.5, 0.75, 1, 1, 1]))


@pytest.mark.parametrize("mode", ["2d", "3d", "pcg", "pcm"])
def test_one_window_is_no_window(golden_backbone, mode):
    volume = torch.rand(1, 1, 5, 32, 48)
    want, got = lift(golden_backbone, mode)(volume), lift(golden_backbone, mode, depth_window=5)(volume)
    assert_close(got.dense, want.dense, atol=0, rtol=0)
    assert_close(got.tokens, want.tokens, atol=0, rtol=0)


@pytest.mark.parametrize("mode", ["2d", "3d", "pcg", "pcm"])
def test_each_window_is_lifted_by_itself(golden_backbone, mode):
    volume = torch.rand(2, 1, 9, 32, 48)
    lifted = lift(golden_backbone, mode, layers=(1, -1), depth_window=6, depth_overlap=3)
    features = lifted(volume)
    alone = lift(golden_backbone, mode, layers=(1, -1))
    first, second = alone(volume[:, :, :6]), alone(volume[:, :, 3:])
    fade = torch.tensor([0.75, 0.5, 0.25])
    for index, layer in features.layers.items():
        a, b = first.layers[index], second.layers[index]
        assert_close(layer.dense[:, :, :3], a.dense[:, :, :3], atol=0, rtol=0)
        assert_close(layer.dense[:, :, 6:], b.dense[:, :, 3:], atol=0, rtol=0)
        weight = fade[:, None, None]
        assert_close(layer.dense[:, :, 3:6], weight * a.dense[:, :, 3:] + (1 - weight) * b.dense[:, :, :3])
        if mode == "3d":
            assert_close(layer.tokens, (a.tokens + b.tokens) / 2)
            continue
        assert_close(layer.tokens[:, :3], a.tokens[:, :3], atol=0, rtol=0)
        assert_close(layer.tokens[:, 3:6], weight * a.tokens[:, 3:] + (1 - weight) * b.tokens[:, :3])


def test_slice_by_slice_windows_change_nothing(golden_backbone, lite0):
    for backbone in (golden_backbone, lite0):
        volume = torch.rand(1, 1, 11, 2 * backbone.stride, 2 * backbone.stride)
        want, got = lift(backbone, "2d")(volume), lift(backbone, "2d", depth_window=4)(volume)
        assert_close(got.dense, want.dense, atol=5e-5, rtol=1e-5)
        assert_close(got.tokens, want.tokens, atol=5e-5, rtol=1e-5)


def test_gradients_pass_through_windows(golden_backbone):
    volume = torch.rand(1, 1, 7, 32, 32, requires_grad=True)
    lift(golden_backbone, depth_window=4, depth_overlap=2)(volume).dense.square().mean().backward()
    assert (volume.grad.abs().amax(dim=(0, 1, 3, 4)) > 0).all()


@pytest.mark.parametrize(
    "how",
    [{"depth_window": 4, "depth_overlap": 4}, {"depth_window": 0}, {"depth_window": 4, "depth_overlap": -1},
     {"depth_overlap": 2}],
)  # fmt: skip
def test_windows_that_make_no_sense(golden_backbone, how):
    with pytest.raises(LiftingError, match="depth"):
        lift(golden_backbone, **how)

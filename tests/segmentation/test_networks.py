"""The heads as modules: shapes, gradients, parameters, memory."""

import pytest
import torch

from featlift.backbones.footprint import PeakMemory
from featlift.errors import OptionError
from featlift.segmentation import HEADS, Batch, Plan, Size, make_head
from featlift.segmentation.networks.blocks import DepthTable
from featlift.segmentation.networks.subcube import Subcube, assembled, disassembled

SMALL = {"decoder": {"width": 8}, "subcube": {"width": 8, "window": (2, 3, 4)}}


def batch_of(size: Size, cells=(5, 7, 3), count=2) -> Batch:
    d, h, w = cells
    ratio = size.times
    return Batch(
        depth=torch.linspace(0, 1, d).repeat(count, 1),
        features=torch.randn(count, size.channels, d, h, w) if size.channels else None,
        slices=torch.randn(count, size.channels, d) if size.channels else None,
        scan=torch.rand(count, size.scan_channels, d, h * ratio, w * ratio),
    )


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [Size(6, 3, 0), Size(6, 2, 1, scan_channels=3), Size(9, 4, 2), Size(6, 3, 3, 1, 7)])
def test_every_head_scores_every_class_at_every_predicted_voxel(name, size):
    head = make_head(name, size, SMALL.get(name, {}))
    ratio = size.times
    logits = head(batch_of(size))
    assert logits.shape == (2, size.classes, 5, 7 * ratio, 3 * ratio)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_features_are_standardised_by_what_is_kept_with_the_weights(name):
    """Features in other units, with mean and deviation to match, make no difference."""
    size = Size(6, 3, 1)
    torch.manual_seed(0)
    head = make_head(name, size, SMALL.get(name, {})).eval()
    batch = batch_of(size)
    before = head(batch)
    head.mean += 40
    head.std *= 1000
    scaled = Batch(batch.depth, batch.features * 1000 + 40, batch.slices * 1000 + 40, batch.scan)
    torch.testing.assert_close(head(scaled), before, rtol=1e-3, atol=1e-4)


def test_the_skip_lets_the_decoder_see_the_scan():
    size = Size(6, 3, 1)
    for skip in (False, True):
        torch.manual_seed(0)
        head = make_head("decoder", size, {"width": 8, "skip": skip})
        batch = batch_of(size)
        other = Batch(batch.depth, batch.features, batch.slices, 1 - batch.scan)
        assert torch.equal(head(batch), head(other)) is not skip
        assert ("scan" in type(head).needs_for({"skip": skip})) is skip


def gradients(two_pass: bool, dropout: float) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    size = Size(6, 3, 1)
    head = Subcube(size, width=16, window=(2, 3, 2), dropout=dropout, two_pass=two_pass).double()
    batch = batch_of(size)
    double = Batch(batch.depth.double(), batch.features.double())
    torch.nn.init.normal_(head.depth.table)
    torch.manual_seed(2)  # of the dropout
    logits = head(double)
    # a loss that couples all windows, as Dice does
    chances = logits.softmax(dim=1)
    (1 - 2 * chances[:, 1].sum() / (chances.square().sum() + 1)).backward()
    return {name: parameter.grad for name, parameter in head.named_parameters()}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_two_passes_give_the_ordinary_gradient_with_the_same_dropout(dropout):
    two, one = gradients(True, dropout), gradients(False, dropout)
    assert two.keys() == one.keys()
    assert any(name.startswith("arm.") for name in two)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-12, atol=1e-15, msg=name)
        assert one[name].abs().max() > 0, name


def test_dropout_is_at_work_in_training_and_only_there():
    assert any(not torch.equal(gradients(True, 0.5)[name], value) for name, value in gradients(True, 0.0).items())
    head = make_head("subcube", Size(6, 3, 1), SMALL["subcube"] | {"dropout": 0.5}).eval()
    batch = batch_of(Size(6, 3, 1))
    assert torch.equal(head(batch), head(batch))


@pytest.mark.parametrize("cells", [(5, 7, 3), (4, 6, 8), (1, 1, 1)])
def test_windows_do_not_overlap_and_come_together_again(cells):
    volume = torch.randn(2, 3, *cells)
    windows = disassembled(volume, (2, 3, 4))
    assert torch.equal(assembled(windows), volume)
    flat = [window for slab in windows for row in slab for window in row]
    assert sum(window[0, 0].numel() for window in flat) == volume[0, 0].numel()
    assert all(size <= most for window in flat for size, most in zip(window.shape[2:], (2, 3, 4), strict=True))


def test_memory_of_the_arm_does_not_grow_with_the_number_of_windows():
    """What a step holds at most, less what it holds with an arm that does nothing."""

    def arm(count: int, two_pass: bool) -> int:
        peaks = []
        for idle in (False, True):
            torch.manual_seed(0)
            head = Subcube(Size(16, 2, 1), width=32, window=(4, 4, 4), two_pass=two_pass)
            if idle:
                head.arm.forward = lambda window: torch.nn.functional.interpolate(window, scale_factor=(1, 2, 2))
            batch = Batch(torch.linspace(0, 1, 4 * count)[None], torch.randn(1, 16, 4 * count, 4, 4))
            with PeakMemory() as memory:
                head(batch).square().mean().backward()
            peaks.append(memory.peak)
        return peaks[0] - peaks[1]

    assert arm(12, two_pass=True) < 1.5 * arm(1, two_pass=True)
    assert arm(12, two_pass=False) > 8 * arm(1, two_pass=False)


def test_dino3dra_has_the_size_that_was_published():
    """5.7 million trainable parameters, 116 thousand of them the injection, with the 384 channels of a ViT-S."""
    counts = make_head("dino3dra", Size(384, 2, 0), {}).parameter_counts()
    assert counts["trainable"] == pytest.approx(5.72e6, rel=0.05)
    assert counts["injection"] == pytest.approx(116e3, rel=0.05)


def test_dino3dra_has_three_scales_of_24_48_and_96_channels_at_64_32_and_16():
    head = make_head("dino3dra", Size(4, 2, 0), {}).eval()
    seen = []
    for injection in head.injections:
        injection.register_forward_hook(lambda module, given, result: seen.append(tuple(result.shape[1:])))
    depth = torch.linspace(0, 1, 64)[None]
    with torch.inference_mode():
        head(Batch(depth, slices=torch.randn(1, 4, 64), scan=torch.rand(1, 1, 64, 64, 64)))
    assert sorted(seen) == [(24, 64, 64, 64), (48, 32, 32, 32), (96, 16, 16, 16)]


def test_ablations_leave_out_what_they_name():
    def parts(*without, channels=6):
        head = make_head("dino3dra", Size(channels, 2, 0), {"without": without})
        batch = batch_of(Size(channels, 2, 0), (9, 8, 8))
        assert head(batch).isfinite().all()
        names = {name.split(".")[2] for name, _ in head.named_parameters() if name.startswith("injections.")}
        return names, head.parameter_counts()["injection"]

    names, whole = parts()
    assert names == {"project", "room_lite", "fusion"}
    assert parts("room-lite")[0] == {"project", "fusion"}
    assert parts("calibration")[0] == {"project", "room_lite"}
    names, bare = parts("room-lite", "calibration")
    assert (names, bare < whole) == ({"project"}, True)
    assert parts(channels=0) == (set(), 0)  # a U-Net


def test_without_calibration_slices_are_added():
    head = make_head("dino3dra", Size(6, 2, 0), {"without": ("room-lite", "calibration")})
    injection = head.injections[0]
    skip, slices = torch.randn(1, 24, 4, 3, 2), torch.randn(1, 6, 4)
    told = injection(skip, slices, torch.linspace(0, 1, 4)[None])
    expected = (
        skip + (injection.project.weight[:, :, 0] @ slices[0] + injection.project.bias[:, None])[None, ..., None, None]
    )
    torch.testing.assert_close(told, expected)


def test_a_depth_table_is_interpolated_between_its_places():
    table = DepthTable(2, 5)
    torch.nn.init.normal_(table.table)
    found = table(torch.tensor([[0.0, 0.25, 0.375, 1.0, 2.0]]))[0]
    expected = torch.stack(
        [table.table[:, 0], table.table[:, 1], table.table[:, 1:3].mean(dim=1), *[table.table[:, 4]] * 2]
    )
    torch.testing.assert_close(found, expected.T)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"head": "unet"}, "choose linear, decoder, subcube, dino3dra"),
        ({"head": "linear", "options": {"skip": True}}, "--skip is no option of the head linear"),
        ({"head": "linear", "features": "none"}, "dino3dra is a U-Net without"),
        ({"head": "linear", "features": "gaussian"}, "choose store, random, none"),
        ({"head": "linear", "epochs": 0}, "from 1"),
        ({"head": "linear", "rate": -1.0}, "positive"),
        ({"head": "linear", "warm_up": 1.0}, "below 1"),
    ],
)
def test_plans_that_make_no_sense(plan, says):
    with pytest.raises(OptionError, match=says):
        Plan(**plan)
    with pytest.raises(OptionError, match="--without bias"):
        make_head("dino3dra", Size(4, 2, 0), {"without": ("bias",)})

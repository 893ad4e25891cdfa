"""Each form of intensity does what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from featlift.errors import VolumeError
from featlift.volumes.intensity import CT_WINDOWS, Intensity


def volume(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, -1)


@pytest.mark.parametrize(
    ("spec", "values", "want", "window"),
    [
        ("minmax", (-10, 0, 30), (0, 0.25, 1), (-10, 30)),
        ("window:0,20", (-10, 0, 5, 30), (0, 0, 0.25, 1), (0, 20)),
        ("window:-2,-1", (-3, -1.5, 0), (0, 0.5, 1), (-2, -1)),
        ("ct:-100,300", (-1000, 0, 100, 3000), (0, 0.25, 0.5, 1), (-100, 300)),
        ("ct:lung", (-1350, -600, 150, 151), (0, 0.5, 1, 1), (-1350, 150)),
        ("ct:soft", (-200, 40, 240), (0, 0.5, 1), (-160, 240)),
        ("ct:bone", (-500, 400, 1300), (0, 0.5, 1), (-500, 1300)),
        ("ct:brain", (-1, 20, 90), (0, 0.25, 1), (0, 80)),
        ("percentile:0,100", (2, 4, 10), (0, 0.25, 1), (2, 10)),
        ("percentile:25,75", (0, 1, 2, 3, 100), (0, 0, 0.5, 1, 1), (1, 3)),
        ("percentile:10,90", tuple(range(11)), (0, 0, *(n / 8 for n in range(1, 9)), 1), (1, 9)),
    ],
)
def test_values_by_hand(spec, values, want, window):
    scaled, windows = Intensity(spec).apply(volume(*values))
    assert scaled.dtype == np.float32
    assert scaled.shape == (1, 1, 1, len(values))
    np.testing.assert_allclose(scaled.ravel(), want, atol=1e-7)
    assert windows == [window]


def test_the_default_spares_outliers():
    values = np.append(np.linspace(0, 1, 9998), [-1e6, 1e6]).astype(np.float32)[None, None]
    scaled, [(low, high)] = Intensity().apply(values)
    assert Intensity().spec == "percentile:0.5,99.5"
    assert (low, high) == pytest.approx((0.005, 0.995), abs=1e-3)
    assert scaled.min() == 0
    assert scaled.max() == 1


def test_none_takes_values_as_they_are():
    scaled, windows = Intensity("none").apply(volume(-3, 0.5, 7))
    np.testing.assert_array_equal(scaled.ravel(), (-3, 0.5, 7))
    assert windows == []


def test_three_windows_are_three_channels():
    hu = np.linspace(-2000, 2000, 60, dtype=np.float32).reshape(3, 4, 5)
    three = Intensity("ct:lung+soft+bone")
    scaled, windows = three.apply(hu)
    assert scaled.shape == (3, 3, 4, 5)
    assert windows == [CT_WINDOWS[name] for name in ("lung", "soft", "bone")]
    for channel, name in zip(scaled, ("lung", "soft", "bone"), strict=True):
        np.testing.assert_array_equal(channel, Intensity(f"ct:{name}").apply(hu)[0][0])


@pytest.mark.parametrize("spec", ["minmax", "none", "window:0,1", "ct:lung+soft+bone", "percentile:1,99"])
def test_constant_volumes_are_refused(spec):
    with pytest.raises(VolumeError, match="every voxel is 7"):
        Intensity(spec).apply(volume(7, 7, 7))


def test_percentiles_that_coincide_are_refused_with_the_way_out():
    sparse = np.zeros((10, 20, 30), np.float32)
    sparse[0, 0, 0] = 1
    with pytest.raises(
        VolumeError, match=r"percentiles 0.5 and 99.5 are both 0: use --intensity minmax or window:LO,HI"
    ):
        Intensity().apply(sparse)
    assert Intensity("minmax").apply(sparse)[0].max() == 1


@pytest.mark.parametrize(
    "spec",
    [
        *("", "max", "minmax:1,2", "none:", "percentile", "percentile:99,1", "Percentile:1,99", "hu:0,1"),
        *("window", "window:", "window:1", "window:1,2,3", "window:2,1", "window:1,1", "window:a,b"),
        *("window:nan,1", "window:-inf,inf", "window:0,inf", "window:-1e308,1e308", "ct:", "ct:liver", "ct:lung+"),
    ],
)
def test_a_wrong_form_is_refused_with_the_right_ones(spec):
    with pytest.raises(ValueError, match=r"intensity '.*give one of percentile:0.5,99.5, minmax, zscore, none, w"):
        Intensity(spec)


@pytest.mark.parametrize("spec", ["percentile:-1,50", "percentile:1,101"])
def test_percentiles_beyond_100_are_refused(spec):
    with pytest.raises(ValueError, match="between 0 and 100"):
        Intensity(spec)


@pytest.mark.parametrize("spec", ["ct:lung+soft", "ct:lung+soft+bone+brain"])
def test_two_windows_are_refused(spec):
    with pytest.raises(ValueError, match="one window, or three"):
        Intensity(spec)


CANONICAL = {
    "percentile:0.5,99.5": "percentile:0.5,99.5",
    "percentile:1,99": "percentile:1.0,99.0",
    "minmax": "minmax",
    "none": "none",
    "window:-0.1,1e20": "window:-0.1,1e+20",
    "window:1e-9,2e-9": "window:1e-09,2e-09",
    "ct:lung": "window:-1350.0,150.0",
    "ct:0,1": "window:0.0,1.0",
    "ct:lung+soft+bone": "window:-1350.0,150.0+-160.0,240.0+-500.0,1300.0",
    "window:0,1+1e5,1e25+-2,-1": "window:0.0,1.0+100000.0,1e+25+-2.0,-1.0",
    "minmax; none ;ct:brain": "minmax;none;window:0.0,80.0",
    "percentile:0,50;percentile:50,100;window:0,1": "percentile:0.0,50.0;percentile:50.0,100.0;window:0.0,1.0",
}


@pytest.mark.parametrize("spec", CANONICAL)
def test_what_the_recipe_records_is_read_back(spec):
    recorded = Intensity(spec).canonical
    assert recorded == CANONICAL[spec]
    assert Intensity(recorded).canonical == recorded


@pytest.mark.parametrize("spec", ["ct:lung+soft+bone", "window:-3,4", "percentile:5,95", "minmax;none;window:0,1"])
def test_what_the_recipe_records_does_the_same(spec):
    array = np.random.default_rng(0).normal(0, 300, (3, 4, 5, 6)).astype(np.float32)
    array = array if ";" in spec else array[0]
    given, recorded = Intensity(spec).apply(array), Intensity(Intensity(spec).canonical).apply(array)
    np.testing.assert_array_equal(given[0], recorded[0])
    assert given[1] == recorded[1]


@pytest.mark.parametrize(
    "spec", ["minmax;none", "minmax;none;none;none", "minmax;none;ct:lung+soft+bone", ";;", "minmax;;none"]
)
def test_one_rule_for_all_channels_or_one_for_each(spec):
    with pytest.raises(ValueError, match=r"one for all channels, or one for each of three|give one of"):
        Intensity(spec)


CHANNELS = np.stack([np.linspace(0, 10, 60), np.linspace(-5, 5, 60), np.linspace(100, 0, 60)]).reshape(3, 3, 4, 5)


def test_one_rule_for_all_channels():
    """Each by its own extremes."""
    scaled, windows = Intensity("minmax").apply(CHANNELS.astype(np.float32))
    assert windows == [(0, 10), (-5, 5), (0, 100)]
    for channel in range(3):
        np.testing.assert_allclose(
            scaled[channel], (CHANNELS[channel] - windows[channel][0]) / np.ptp(windows[channel]), atol=1e-6
        )


def test_a_rule_for_each_channel():
    scaled, windows = Intensity("window:0,5;none;percentile:50,100").apply(CHANNELS.astype(np.float32))
    assert windows[0] == (0, 5)
    assert windows[1] == pytest.approx((50, 100))  # of `none` there is none
    np.testing.assert_allclose(scaled[0], np.clip(CHANNELS[0] / 5, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(scaled[1], CHANNELS[1].astype(np.float32))
    np.testing.assert_allclose(scaled[2], np.clip(CHANNELS[2] / 50 - 1, 0, 1), atol=1e-6)


def test_rules_and_channels_that_do_not_fit():
    with pytest.raises(VolumeError, match=r"it has one channel, but minmax;none;none is for three"):
        Intensity("minmax;none;none").apply(volume(1, 2))
    with pytest.raises(
        VolumeError, match=r"it has 3 channels already, so ct:lung\+soft\+bone cannot make three of one"
    ):
        Intensity("ct:lung+soft+bone").apply(CHANNELS.astype(np.float32))


def test_a_channel_that_is_constant_is_refused():
    three = CHANNELS.astype(np.float32)
    three[1] = 4
    with pytest.raises(VolumeError, match="every voxel is 4: there is nothing to see"):
        Intensity("minmax").apply(three)


@pytest.mark.parametrize("spec", ["percentile:5,95", "minmax", "window:0,50", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_looks_as_it_does_in_its_scan(spec, channels):
    whole = np.random.default_rng(0).normal(0, 100, (channels, 8, 9, 10)).astype(np.float32)
    whole = whole[0] if channels == 1 else whole
    part = whole[..., 2:5, 3:7, 1:9]
    of_all, windows_of_all = Intensity(spec).apply(whole)
    scaled, windows = Intensity(spec).apply(part, whole)
    assert windows == windows_of_all
    np.testing.assert_array_equal(scaled, of_all[:, 2:5, 3:7, 1:9])


@pytest.mark.parametrize("where", [np.s_[:2], np.s_[2:]])
def test_a_part_without_contrast_is_refused(where):
    """Air beside a body: the scan has values, the part lies on one side of them."""
    whole = np.concatenate([np.full((2, 4, 5), -1000), np.full((2, 4, 5), 400)]).astype(np.float32)
    with pytest.raises(VolumeError, match="lie on one side of window:-100,300: choose another --intensity"):
        Intensity("window:-100,300").apply(whole[where], whole)


SPECS = ["percentile:0.5,99.5", "percentile:0,100", "percentile:20,30", "minmax", "window:-2,3", "window:0,1e-50"]


@settings(max_examples=300, deadline=None)
@given(
    array=arrays(
        np.float32,
        array_shapes(min_dims=3, max_dims=3, max_side=4),
        elements=st.floats(-(2.0**126), 2.0**126, width=32),
    ),
    spec=st.sampled_from([*SPECS, "ct:lung+soft+bone"]),
)
@pytest.mark.filterwarnings("error")
def test_the_result_lies_in_0_1_and_keeps_the_order(array, spec):
    assume(array.min() < array.max())
    try:
        scaled, windows = Intensity(spec).apply(array)
    except VolumeError as error:
        assert "percentiles" in str(error) or "one side" in str(error)  # noqa: PT017
        return
    assert len(scaled) == len(windows)
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    order = np.argsort(array, axis=None)
    assert (np.diff(scaled.reshape(len(scaled), -1)[:, order], axis=1) >= 0).all()

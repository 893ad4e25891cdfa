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


@pytest.mark.parametrize(("spec", "channels"), [("minmax", 1), ("none", 1), ("ct:lung", 1), ("ct:lung+soft+bone", 3)])
def test_channels(spec, channels):
    assert Intensity(spec).channels == channels


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
    with pytest.raises(ValueError, match=r"intensity '.*give one of percentile:0.5,99.5, minmax, none, window:LO,HI"):
        Intensity(spec)


@pytest.mark.parametrize("spec", ["percentile:-1,50", "percentile:1,101"])
def test_percentiles_beyond_100_are_refused(spec):
    with pytest.raises(ValueError, match="between 0 and 100"):
        Intensity(spec)


@pytest.mark.parametrize("spec", ["ct:lung+soft", "ct:lung+soft+bone+brain"])
def test_two_windows_are_refused(spec):
    with pytest.raises(ValueError, match="one window, or three"):
        Intensity(spec)


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

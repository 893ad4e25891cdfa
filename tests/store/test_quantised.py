"""Eight bits a value: how far off they are, and that they index as any array."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featlift.errors import VolumeError
from featlift.store import CaseData, LayerData, case_in_memory
from featlift.store.quantised import quantise

GRID = {"layer": 0, "stride": [1, 8, 8], "offset": [0, 3.5, 3.5], "valid": [6, 5, 4], "affine": None}


def case(dense, tokens, dtype="int8"):
    layer = LayerData(0, dense, tokens, None, GRID)
    return case_in_memory(CaseData("a", None, [layer], None, {}, ("cls", "reg"), {"shape": [6, 40, 32]}, dtype))


@pytest.fixture
def dense():
    """Channels of ranges from a millionth to a million, one that is constant, one far from zero."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9, 6, 5, 4)) * (10.0 ** np.arange(-4, 5))[:, None, None, None]
    values[3] = -7.25
    values[4] += 1000
    return values.astype(np.float32)


@pytest.fixture
def tokens():
    return np.random.default_rng(1).normal(size=(6, 2, 9)).astype(np.float32)


def dequantised(quantised, axis):
    shape = [1] * quantised.values.ndim
    shape[axis] = -1
    scale, offset = (each.astype(np.float64).reshape(shape) for each in (quantised.scale, quantised.offset))
    return quantised.values * scale + offset


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (3, 2, 4, 3), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from([0, 2]),
)
def test_no_value_is_off_by_more_than_half_a_step(values, axis):
    quantised = quantise(values, axis)
    moved = np.moveaxis(np.abs(dequantised(quantised, axis) - values), axis, 0).reshape(values.shape[axis], -1)
    largest = np.moveaxis(np.abs(values), axis, 0).reshape(values.shape[axis], -1).max(axis=1)
    rounding = 4 * np.finfo(np.float32).eps * largest + np.finfo(np.float32).tiny  # of offset and scale, both float32
    assert (moved.max(axis=1) <= 0.5 * quantised.scale * (1 + 1e-4) + rounding).all()


def test_constant_channels_are_exact_and_extremes_are_met(dense):
    quantised = quantise(dense, axis=0)
    again = dequantised(quantised, axis=0)
    assert quantised.scale[3] == 0
    assert (again[3] == -7.25).all()
    assert quantised.values[0].min() == -128
    assert quantised.values[0].max() == 127


KEYS = [..., 3, (slice(None), 2), (slice(2, 7, 2), ..., slice(1, 3)), (0, 1, 2, 3), (..., 1, 2), slice(4, 5), (-1, -2)]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_it_indexes_as_an_array(dense, tokens, key):
    stored = case(dense, tokens)
    assert stored.dense.shape == dense.shape
    whole = np.asarray(stored.dense)
    step = quantise(dense, axis=0).scale[:, None, None, None]
    assert (np.abs(whole - dense) <= 0.5001 * step + 1e-6 * np.abs(dense)).all()
    assert stored.dense[key].dtype == np.float32
    np.testing.assert_array_equal(stored.dense[key], whole[key])
    every = np.asarray(stored.tokens)
    assert np.abs(every - tokens).max() <= 0.51 * np.ptp(tokens, axis=(0, 1)).max() / 255
    np.testing.assert_array_equal(stored.tokens[1, :, 2:5], every[1, :, 2:5])


def test_float32_is_what_was_given(dense, tokens):
    stored = case(dense, tokens, "float32")
    np.testing.assert_array_equal(stored.dense[...], dense)
    np.testing.assert_array_equal(stored.tokens[...], tokens)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_what_is_not_finite_is_refused(dense, tokens, dtype):
    dense[0, 0, 0, 0] = np.inf
    with pytest.raises(VolumeError, match="dense features hold NaN or infinite"):
        case(dense, tokens, dtype)

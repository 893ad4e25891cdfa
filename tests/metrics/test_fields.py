"""Scores of displacement fields: reference numbers, SimpleITK's Jacobian, and fields whose answer is known."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from featlift.metrics.fields import folds, jacobian_determinants, regularity, sdlogj, target_registration_errors
from tests.conftest import GOLDEN


@pytest.fixture(scope="module")
def field():
    return dict(np.load(GOLDEN / "systems" / "field.npz"))


@pytest.fixture(scope="module")
def numbers():
    return json.loads((GOLDEN / "systems" / "field.json").read_text())


def test_reference_numbers(field, numbers):
    displacement = field["displacement"]
    assert np.abs(jacobian_determinants(displacement) - field["jacobian"]).max() < 1e-5
    for name, scaled in (("field", displacement), ("field_times_0.4", np.float32(0.4) * displacement)):
        assert sdlogj(scaled) == pytest.approx(numbers[name]["sdlogj"], abs=1e-5)
        assert 100 * folds(scaled) == pytest.approx(numbers[name]["percent_folds"], abs=1e-5)


def test_landmarks(field, numbers):
    landmarks = field["landmarks_fixed"], field["landmarks_moving"]
    found = target_registration_errors(field["displacement"], *landmarks, field["spacing"])
    assert np.abs(found - field["tre_after"]).max() < 1e-5
    before = target_registration_errors(np.zeros_like(field["displacement"]), *landmarks, field["spacing"])
    assert before.mean() == pytest.approx(numbers["field"]["tre_before_mean_mm"], abs=1e-5)


def test_simpleitk_says_the_same_inside(field):
    displacement = field["displacement"]
    image = sitk.GetImageFromArray(np.moveaxis(displacement, 0, -1)[..., ::-1].astype(float), isVector=True)
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inside = (slice(1, -1),) * 3
    assert np.abs(jacobian_determinants(displacement)[inside] - theirs[inside]).max() < 1e-6


def test_a_slice():
    """Twice as long along h, half as long along w; in two dimensions that keeps the area."""
    _, h, w = np.indices((1, 12, 14), float)
    field = np.stack([np.zeros_like(h), h, -w / 2])
    assert jacobian_determinants(field) == pytest.approx(1)
    assert (sdlogj(field), folds(field)) == (pytest.approx(0), 0)
    assert regularity(field) == (sdlogj(field), folds(field))
    assert folds(np.stack([0 * h, -2 * h, 0 * w])) == 1

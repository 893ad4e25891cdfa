"""Scaling and squaring is the integral of a velocity, without folds."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.ndimage import gaussian_filter

from featlift.metrics.fields import folds
from featlift.registration.network.velocity import integrated


def test_a_constant_velocity_leads_as_far():
    velocity = torch.tensor([1.5, -2.25, 0.75])[:, None, None, None].expand(3, 20, 22, 24)
    field = integrated(velocity)
    inner = field[:, 6:-6, 6:-6, 6:-6]
    assert torch.allclose(inner, velocity[:, 6:-6, 6:-6, 6:-6], atol=1e-4)


def test_a_linear_velocity_leads_where_its_exponential_does():
    """Of dx/dt = A (x - c) the place after a unit of time is c + exp(A) (x - c); seven steps are near it."""
    shape = (24, 24, 24)
    matrix = np.array([[0.05, 0.2, 0.0], [-0.25, -0.1, 0.1], [0.0, 0.1, 0.08]])
    away = np.indices(shape) - 11.5
    velocity = torch.from_numpy(np.tensordot(matrix, away, axes=1)).double()
    want = np.tensordot(expm(matrix) - np.eye(3), away, axes=1)
    inner = np.s_[:, 7:-7, 7:-7, 7:-7]
    errors = [np.abs(integrated(velocity, steps).numpy()[inner] - want[inner]).max() for steps in (3, 7)]
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 8


@pytest.mark.parametrize("shape", [(24, 28, 20), (1, 40, 40)])
def test_what_folds_as_a_displacement_does_not_as_a_velocity(shape):
    rng = np.random.default_rng(0)
    noise = np.stack([gaussian_filter(rng.normal(size=shape), [2 * (size > 1) for size in shape]) for _ in range(3)])
    velocity = torch.from_numpy(noise * 8 / np.abs(noise).max()).float()
    if shape[0] == 1:
        velocity[0] = 0
    assert folds(velocity.numpy()) > 0.01
    field = integrated(velocity)
    assert folds(field.numpy()) == 0
    assert field.abs().max() > 3

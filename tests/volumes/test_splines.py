"""Cubic resampling is nnU-Net's: numbers of its own function (tests/golden/README.md)."""

from pathlib import Path

import numpy as np
import pytest

from featlift.volumes import Preparation, Volume, prepare
from featlift.volumes.splines import resample_cubic

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "nnunet_resampling.npz")


@pytest.mark.parametrize("name", ["even", "thick", "thick_w"])
def test_it_is_that_of_nnunet(name):
    now, wanted = GOLDEN[f"{name}_spacing"]
    affine = np.diag([*now, 1.0])
    theirs = GOLDEN[f"{name}_to"]
    found, lies = resample_cubic(GOLDEN[name][None], affine, theirs.shape, tuple(wanted))
    np.testing.assert_allclose(found[0], theirs, atol=1e-5)
    far = [*(np.array(theirs.shape) - 0.5), 1]  # the far corner of the field of view stays where it was
    np.testing.assert_allclose(lies @ far, affine @ [*(np.array(GOLDEN[name].shape) - 0.5), 1])


def test_a_preparation_asks_for_it():
    volume = Volume(GOLDEN["even"], np.diag([1.2, 0.8, 1.0, 1.0]))
    how = Preparation("native", "none", spacing=(0.9, 1.0, 0.8), resampling="cubic")
    assert how.as_recipe()["resampling"] == "cubic"
    assert Preparation.from_recipe(how.as_recipe()) == how
    prepared = prepare(volume, how)
    wanted = resample_cubic(GOLDEN["even"][None], volume.affine, prepared.shape, how.spacing)[0]
    np.testing.assert_array_equal(prepared.scan, wanted)
    plain = Preparation("native", "none", spacing=(0.9, 1.0, 0.8))
    assert "resampling" not in plain.as_recipe()
    assert np.abs(prepare(volume, plain).scan - prepared.scan).max() > 0.01

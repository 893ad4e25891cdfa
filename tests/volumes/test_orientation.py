"""However the axes of a scan are stored, the backbone sees the same array, and every voxel stays in its place."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from featlift.volumes import read
from featlift.volumes.orientation import orient_lps
from tests.support.files import OBLIQUE, save

ARRAY = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)  # every value once
STRAIGHT = np.array([[0, 0, 0.7, -12], [0, 0.9, 0, 40], [3, 0, 0, -301], [0, 0, 0, 1]])  # (d, h, w): z, y, x
TILTED = np.eye(4)
TILTED[:3, :3] = Rotation.from_euler("xyz", [12, -8, 15], degrees=True).as_matrix()
STORED = [
    (order, flips) for order in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)
]


def stored(array, affine, order, flips):
    """The same scan as a file with other axes has it."""
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        to_old[old, new] = flip
        to_old[old, 3] = array.shape[old] - 1 if flip < 0 else 0
    flipped = array.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    return np.ascontiguousarray(flipped), affine @ to_old


@pytest.mark.parametrize("affine", [STRAIGHT, TILTED @ STRAIGHT], ids=["straight", "tilted"])
@pytest.mark.parametrize(("order", "flips"), STORED)
def test_all_48_ways_to_store_a_scan(affine, order, flips):
    array, its_affine = stored(ARRAY, affine, order, flips)
    oriented, new_affine = orient_lps(array, its_affine)
    np.testing.assert_array_equal(oriented, ARRAY)
    assert oriented.flags.c_contiguous
    np.testing.assert_allclose(new_affine, affine, atol=1e-12)
    for value in np.random.default_rng(0).choice(ARRAY.ravel(), 3):
        before, after = np.argwhere(array == value), np.argwhere(oriented == value)
        np.testing.assert_allclose(
            nib.affines.apply_affine(new_affine, after), nib.affines.apply_affine(its_affine, before), atol=1e-9
        )


def test_lps_stays_as_it_is():
    oriented, affine = orient_lps(ARRAY, STRAIGHT)
    assert np.shares_memory(oriented, ARRAY)
    np.testing.assert_array_equal(affine, STRAIGHT)


@pytest.mark.parametrize("scale", [1e-6, 1, 1e3])
def test_each_axis_follows_the_nearest_one_of_the_patient(scale):
    """OBLIQUE turns by less than 45 degrees, so its axes are in order as they are, in any unit and under shear."""
    sheared = OBLIQUE @ np.array([[1, 0.2, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for affine in (OBLIQUE, sheared):
        oriented, _ = orient_lps(ARRAY, np.diag([scale, scale, scale, 1]) @ affine)
        np.testing.assert_array_equal(oriented, ARRAY)


def test_the_directions_are_those_of_nibabel(tmp_path):
    """A file whose axes nibabel calls left, posterior, superior is in (d, h, w) what we call LPS."""
    path = save(tmp_path / "1.nii", ARRAY, STRAIGHT)
    assert nib.aff2axcodes(nib.load(path).affine) == ("L", "P", "S")
    volume = read(path)
    oriented, _ = orient_lps(volume.array, volume.affine)
    np.testing.assert_array_equal(oriented, ARRAY)


def test_a_real_brain_stored_upside_down(shared):
    """brain1 is stored with H from posterior to anterior: one flip, and the two orientations are one scan."""
    volume = read(shared / "lesions/brain1_image.nrrd")
    oriented, affine = orient_lps(volume.array, volume.affine)
    np.testing.assert_array_equal(oriented, volume.array[:, ::-1])
    assert (np.diag(affine[:3, 2::-1]) > 0).all()
    np.testing.assert_allclose(affine @ (3, 0, 7, 1), volume.affine @ (3, 255, 7, 1))

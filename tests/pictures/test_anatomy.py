"""Which way pictures are shown, against orientations written by hand and a second library."""

import nibabel as nib
import numpy as np
import pytest

from featlift.drawing.anatomy import PLANES, views

LPS = np.array([[0.0, 0, 0.7, 10], [0, 0.8, 0, 20], [3.0, 0, 0, 30], [0, 0, 0, 1]])  # (d, h, w): to S, to P, to L


def test_an_oriented_volume_is_shown_as_radiologists_expect():
    shown = views(LPS)
    assert {plane: view.name for plane, view in shown.items()} == {"HW": "axial", "DW": "coronal", "DH": "sagittal"}
    assert {plane: "".join(view.letters) for plane, view in shown.items()} == {"HW": "ALPR", "DW": "SLIR", "DH": "SPIA"}
    assert shown["DW"].spacing == pytest.approx((3.0, 0.7))
    assert shown["DW"].step == pytest.approx(0.8)
    assert shown["DH"].extent((5, 10, 20)) == pytest.approx((15.0, 8.0))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SRP", "ILA", "PIR", "ASL"])
@pytest.mark.parametrize("tilt", [0.0, 0.2])
def test_the_corner_of_a_picture_is_the_voxel_that_its_letters_say(codes, tilt):
    """Whatever way the array lies, a step up or to the right leads to the side that the letter says."""
    affine = _lying(codes, tilt)
    shape = (4, 5, 6)
    indices = np.moveaxis(np.indices(shape), 0, -1)
    places = indices @ affine[:3, :3].T  # LPS millimetres of every voxel
    towards = dict(zip("LRPASI", [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)], strict=True))
    for view in views(affine).values():
        picture = np.stack([view.picture(places[..., axis], 2) for axis in range(3)], axis=-1)
        assert picture.shape[:2] == (shape[view.down], shape[view.right])
        top, right, bottom, left = view.letters
        for letter, step in ((top, picture[0, 0] - picture[1, 0]), (right, picture[0, 1] - picture[0, 0])):
            axis, sign = towards[letter]
            assert sign * step[axis] > 0
            assert abs(step[axis]) == np.abs(step).max()
        assert (top, bottom) in {("S", "I"), ("A", "P")}
        assert (left, right) in {("R", "L"), ("A", "P")}


def test_colours_travel_with_their_cells():
    rgb = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), np.uint8)
    for view in views(LPS).values():
        for channel in range(3):
            np.testing.assert_array_equal(view.picture(rgb, 1)[..., channel], view.picture(rgb[..., channel], 1))


def test_unknown_geometry_is_shown_as_it_lies_without_letters():
    array = np.arange(60).reshape(3, 4, 5)
    for plane, view in views(None).items():
        assert view.letters is None
        assert view.name == plane
        np.testing.assert_array_equal(view.picture(array, 1), np.take(array, 1, axis=3 - sum(PLANES[plane])))


def _lying(codes: str, tilt: float) -> np.ndarray:
    """An affine to LPS whose array axes run towards these sides of the patient, tilted a little."""
    ras = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(tuple(codes)), (4, 5, 6))
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, -1, 1]) @ np.linalg.inv(ras)[:3, :3] @ np.diag([0.7, 1.3, 2.0])
    return affine

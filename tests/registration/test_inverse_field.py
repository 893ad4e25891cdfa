"""The field back: there and back again, through an affine stage and a smooth warp."""

import numpy as np
import pytest

from featlift.registration import DisplacementField
from featlift.registration.inverse import inverted
from featlift.volumes import Volume

SHAPE = (40, 50, 44)


def grid(steps, origin=(-20.0, 5, 30)):
    """Oblique and flipped, with voxels of so many millimetres."""
    turn, _ = np.linalg.qr([[1, 0.3, -0.2], [-0.4, 1, 0.1], [0.2, 0.1, -1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(steps)
    affine[:3, 3] = origin
    return affine


def places(shape, affine):
    return affine[:3, :3] @ np.indices(shape, float).reshape(3, -1) + affine[:3, 3:]


@pytest.mark.parametrize("affine", [None, 40], ids=["alone", "affine"])
def test_there_and_back(affine):
    fixed, moving = grid((1.2, 1, 1)), grid((2, 1, -1.0), (0, 30, 20.0))
    matrix = np.eye(4)
    if affine is not None:  # far beyond what a fixed point of the whole field converges for
        cos, sin = np.cos(np.deg2rad(affine)), np.sin(np.deg2rad(affine))
        matrix[:2, :2] = np.array([[cos, -sin], [sin, cos]]) * 1.3
    centre = places(SHAPE, fixed).mean(axis=1)
    moving[:3, 3] += matrix[:3, :3] @ centre - places((30, 60, 60), moving).mean(axis=1)

    def lead(points):
        x, y, z = points / 40 * 2 * np.pi
        step = np.stack([1.8 * np.sin(0.9 * y), -2 * np.cos(0.8 * x - z), 2 * np.sin(0.7 * x + y)])
        return matrix[:3, :3] @ (points + step)

    points = places(SHAPE, fixed)
    field = DisplacementField((lead(points) - points).reshape(3, *SHAPE).astype(np.float32), fixed)
    back = inverted(field, (30, 60, 60), moving, matrix)
    assert back.shape == (30, 60, 60)
    body = points[:, (np.abs(np.indices(SHAPE).reshape(3, -1).T - np.array(SHAPE) / 2) < 8).all(axis=1)]
    assert np.linalg.norm(back.moved(field.moved(body)) - body, axis=0).max() < 0.1
    there = field.moved(body)
    assert np.linalg.norm(field.moved(back.moved(there)) - there, axis=0).max() < 0.1


def test_a_shift_comes_back_beyond_the_edges():
    """What the field does at its edge goes on outside of it."""
    affine = grid((1, 1, 1))
    shift = np.float32([3, -2, 4])[:, None, None, None]
    back = inverted(DisplacementField(np.broadcast_to(shift, (3, *SHAPE)).copy(), affine), SHAPE, affine)
    assert back.vectors == pytest.approx(np.broadcast_to(-shift, back.vectors.shape), abs=1e-4)


def test_a_scan_goes_there_and_back():
    affine = grid((1, 1, 1))
    d, h, w = np.indices(SHAPE)
    scan = Volume(np.sin(d / 4).astype(np.float32) + np.cos(h / 5 + w / 6).astype(np.float32), affine)
    points = places(SHAPE, affine)
    vectors = np.stack([1.5 * np.sin(points[1] / 8), np.cos(points[0] / 9), 0 * points[2]])
    field = DisplacementField(vectors.reshape(3, *SHAPE).astype(np.float32), affine)
    warped = Volume(field.warp(scan, SHAPE, affine), affine)
    again = inverted(field, SHAPE, affine).warp(warped, SHAPE, affine)
    inner = (slice(6, -6),) * 3
    assert np.abs(again - scan.array)[inner].mean() < 0.05 < np.abs(warped.array - scan.array)[inner].mean()

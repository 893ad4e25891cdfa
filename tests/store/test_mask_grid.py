"""Cells among the voxels of a mask: the same places as in millimetres, whatever the grids."""

import numpy as np
import pytest

from featlift import open_store
from featlift.errors import VolumeError
from featlift.store.cells import CellGrid
from featlift.store.mask_grid import MaskGrid, mask_within
from featlift.store.truth import truth_of
from featlift.volumes import Volume
from tests.support import planted

#: As much turned, sheared and flipped as scanners allow.
TURN = np.array([[0.9, -0.1, 0.05, 3.0], [0.15, -0.8, 0.1, 20.0], [0.0, 0.2, 1.3, -1.0], [0, 0, 0, 1]])


@pytest.fixture
def case(tmp_path):
    planted.plant(tmp_path / "s.zarr")
    return open_store(tmp_path / "s.zarr")["one"]


def plane(affine, shape, direction=(0.3, -0.2, 0.5)):
    """A function that is linear in millimetres, at the voxels of a grid."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    places = indices @ affine[:3, :3].T + affine[:3, 3]
    return (places @ np.array(direction)).astype(np.float32)


def within(case, affine, shape):
    """Voxels of a grid that lie between the centres of cells, where interpolation is exact for what is linear."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    to_cells = np.linalg.solve(case.affine, affine)
    at = indices @ to_cells[:3, :3].T + to_cells[:3, 3]
    return ((at >= 0) & (at <= np.array(case.valid_cells) - 1)).all(axis=-1)


def test_maps_come_to_the_places_of_voxels_on_an_oblique_grid(case):
    affine, shape = planted.AFFINE @ TURN, (7, 30, 20)
    grid = MaskGrid.of(case, Volume(np.zeros(shape, np.float32), affine))
    found = grid.upsample(plane(case.affine, case.valid_cells))
    inner = within(case, affine, shape)
    assert inner.sum() > 200
    np.testing.assert_allclose(found[inner], plane(affine, shape)[inner], atol=2e-4)


def test_samples_are_what_maps_have_there(case):
    affine, shape = planted.AFFINE @ TURN, (7, 30, 20)
    grid = MaskGrid.of(case, Volume(np.zeros(shape, np.float32), affine))
    features = np.random.default_rng(0).normal(size=(3, *case.valid_cells)).astype(np.float32)
    places = np.random.default_rng(1).choice(np.prod(shape), 500, replace=False)
    maps = np.stack([grid.upsample(channel).ravel() for channel in features])
    np.testing.assert_allclose(grid.sample(features, places), maps[:, places].T, atol=2e-5)


def test_on_the_scans_own_grid_it_is_the_grid_of_the_scan(case):
    mask = Volume(np.zeros(planted.SHAPE, np.float32), planted.AFFINE)
    own = CellGrid(case.valid_cells, case.scan_shape, case.stride, case.offset)
    grid = MaskGrid.of(case, mask)
    values = np.random.default_rng(0).normal(size=case.valid_cells).astype(np.float32)
    np.testing.assert_allclose(grid.upsample(values), own.upsample(values), atol=1e-5)
    blocks = np.kron(np.arange(np.prod(planted.CELLS)).reshape(planted.CELLS), np.ones(planted.STRIDE)).astype(np.int32)
    np.testing.assert_array_equal(grid.labels_on_cells(blocks), own.labels_on_cells(blocks))


def test_voxels_beyond_the_scan_are_cut_off(case):
    """A mask of the whole patient says nothing of voxels that the scan does not show."""
    larger = np.zeros((planted.SHAPE[0] + 4, planted.SHAPE[1] + 9, planted.SHAPE[2] + 2), np.float32)
    larger[0, 0, 0] = 3  # outside
    larger[3:5, 10:14, 8:12] = 2
    shift = np.eye(4)
    shift[:3, 3] = (-2, -6, 0)
    part = mask_within(case, Volume(larger, planted.AFFINE @ shift, source={"sha256": "1" * 64}))
    assert part.array.shape == planted.SHAPE
    np.testing.assert_allclose(part.affine, planted.AFFINE)
    np.testing.assert_array_equal(part.array, larger[2 : 2 + 6, 6 : 6 + 32, :40])
    assert truth_of(case, case, Volume(larger, planted.AFFINE @ shift), "mask").labels.max() == 2


def test_a_mask_that_does_not_meet_the_scan_is_refused(case, tmp_path):
    away = planted.AFFINE.copy()
    away[:3, 3] += 500
    mask = np.ones(planted.SHAPE, np.float32)
    with pytest.raises(VolumeError, match="does not overlap"):
        truth_of(case, case, Volume(mask, away), "mask")
    with pytest.raises(VolumeError, match="does not say where it lies"):
        truth_of(case, case, Volume(mask), "mask")

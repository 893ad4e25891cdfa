"""Where a store began to place its cells is where it goes on, whatever this machine would measure."""

from copy import copy

import numpy as np
import pytest

from featlift import Volume, extract, lift, open_store
from featlift.backbones.sampling import Sampling
from featlift.errors import StoreError
from featlift.extraction import Extraction, Run, make_recipe
from featlift.store.merging import Merge
from featlift.volumes import Preparation, find_scans
from tests.support.scans import write_nifti


@pytest.fixture
def lifted(lite0):
    return lift(lite0, "2d", layers=("stride16", -1))


def _elsewhere(lifted, *offsets):
    """As if another machine had measured, or an earlier featlift had composed, these offsets."""
    other = copy(lifted)
    other.layers = tuple(layer.looking_at(offset) for layer, offset in zip(lifted.layers, offsets, strict=True))
    return other


def _add(store, lifted, folder, *names):
    for name in names:
        write_nifti(folder / f"{name}.nii.gz", np.random.default_rng(0).random((70, 57, 2)))
    with Run(store, Extraction(lifted, Preparation()), find_scans([folder])) as run:
        assert [outcome.status for outcome in run.extract()] == ["done"] * len(names)
    return open_store(store)


def test_the_recipe_has_offsets_only_where_a_network_looks_elsewhere(lifted, tiny_vit):
    assert make_recipe(lifted, Preparation())["offsets"] == [9.5, 18.0]
    assert "offsets" not in make_recipe(lift(tiny_vit), Preparation())
    assert "offsets" not in make_recipe(_elsewhere(lifted, None, None), Preparation())


@pytest.mark.parametrize("offsets", [(None, None), (9.0, 18.0), (10.0, None)])
def test_a_store_goes_on_with_its_own_offsets(lifted, offsets, tmp_path):
    first = _add(tmp_path / "a.zarr", _elsewhere(lifted, *offsets), tmp_path / "one", "a")
    recipe = first.recipe
    both = _add(tmp_path / "a.zarr", lifted, tmp_path / "two", "b")
    assert both.recipe == recipe
    for index in (3, 4):
        before, after = (both[case].layers[index] for case in ("a", "b"))
        assert before.grid == after.grid
    assert [layer.windows for layer in lifted.layers] == [Sampling(16, 15.0), Sampling(32, 31.0)]
    assert [layer.sampling.offset for layer in lifted.layers] == [9.5, 18.0]


def test_what_differs_in_more_is_refused(lifted, lite0, tmp_path):
    _add(tmp_path / "a.zarr", _elsewhere(lifted, None, None), tmp_path / "one", "a")
    with pytest.raises(StoreError, match="mode"):
        _add(tmp_path / "a.zarr", lift(lite0, "pcg", layers=("stride16", -1)), tmp_path / "two", "b")


def test_stores_of_other_offsets_are_not_merged(lifted, tmp_path):
    _add(tmp_path / "a.zarr", _elsewhere(lifted, None, None), tmp_path / "one", "a")
    _add(tmp_path / "b.zarr", lifted, tmp_path / "two", "b")
    with pytest.raises(StoreError, match="offsets"):
        Merge([str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr")], str(tmp_path / "c.zarr"))


@pytest.mark.parametrize("offset", [-6.0, -0.5, 9.5, 20.0])
@pytest.mark.parametrize("size", [(48, 96), (49, 70), (55, 95), (3, 33)])
def test_features_stay_and_their_places_move(lifted, offset, size):
    volume = Volume(np.random.default_rng(0).random((2, *size), dtype=np.float32), np.eye(4))
    as_it_is = Preparation(orient="native")
    plain = extract(volume, _elsewhere(lifted, None, None), as_it_is).layers[3]
    moved = extract(volume, _elsewhere(lifted, offset, None), as_it_is).layers[3]
    np.testing.assert_array_equal(np.asarray(plain.dense), np.asarray(moved.dense))
    assert moved.offset == (0, offset, offset)
    np.testing.assert_allclose(moved.affine[:3, 3] - plain.affine[:3, 3], [0, offset - 15, offset - 15])
    for valid, there, voxels in zip(moved.valid_cells[1:], moved.dense.shape[2:], size, strict=True):
        centres = offset + 16 * np.arange(there)
        assert valid == max(1, (centres <= voxels - 0.5).sum())

"""The pyramid, by the readers and validators of OME-Zarr."""

import numpy as np
import pytest
import zarr

from featlift.exporting.ome_zarr import write_ome_zarr
from featlift.exporting.picture import Picture
from featlift.volumes.volume import spacing_of
from tests.exporting.test_export import AFFINES, LPS, centre_in_lps, extract, write_colours

#: (d, h, w) to LPS: from RAS and (i, j, k).
REVERSED = np.eye(4)[[2, 1, 0, 3]]


def levels_of(path):
    """Every level as ome-zarr reads it, and the (z, y, x) of its voxels by its scale and translation."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models import open_ome_zarr

    assert type(open_ome_zarr(zarr.open_group(path, mode="r"))).__module__.startswith("ome_zarr_models.v05")
    (node,) = Reader(parse_url(path))()
    levels = []
    for data, transformations in zip(node.data, node.metadata["coordinateTransformations"], strict=True):
        scale, translation = (np.array(each[each["type"]]) for each in transformations)
        levels.append((np.asarray(data), scale, translation))
    return levels, node.metadata


@pytest.mark.parametrize("orient", ["LPS", "native"])
def test_viewers_find_what_is_bright_on_every_level(featlift, tmp_path, orient):
    affine = AFFINES["flipped"]
    store = extract(featlift, tmp_path, affine, "--orient", orient, shape=(150, 90, 12))
    write_colours(tmp_path / "colours.safetensors", store)
    done = featlift("export", "features.zarr", "--to", "ome-zarr", "--colours", "colours.safetensors")
    assert done.returncode == 0, done.stderr
    levels, metadata = levels_of(tmp_path / "features-ome-zarr/p__colours.ome.zarr")
    # 0.8 x 0.9 x 2.5 mm: slices are as thick until voxels are nearly as long
    assert [data.shape for data, *_ in levels] == [(3, 12, 90, 150), (3, 12, 45, 75), (3, 6, 23, 38)]
    assert [axis["name"] for axis in metadata["axes"]] == ["c", "z", "y", "x"]
    assert {axis.get("unit") for axis in metadata["axes"]} == {None, "millimeter"}
    for data, scale, translation in levels:
        assert data.dtype == np.uint8
        bright = np.argwhere(data[0] > 0)
        centre = np.average(bright, axis=0, weights=data[0][data[0] > 0].astype(float))
        found = (translation[1:] + scale[1:] * centre)[::-1]
        np.testing.assert_allclose(found, centre_in_lps(affine), atol=0.1 * min(scale[1:]))


def test_an_oblique_scan_keeps_its_first_voxel_and_its_affine(tmp_path):
    affine = LPS @ AFFINES["oblique"] @ REVERSED
    write_ome_zarr(tmp_path / "a.ome.zarr", Picture(np.zeros((4, 5, 66, 3), np.uint8), affine))
    levels, _ = levels_of(tmp_path / "a.ome.zarr")
    kept = np.array(zarr.open_group(tmp_path / "a.ome.zarr").attrs["featlift"]["affine_lps_mm"])
    (_, scale, translation) = levels[0]
    np.testing.assert_allclose(translation[1:][::-1], kept[:3, 3])
    np.testing.assert_allclose(scale[1:], spacing_of(kept))
    # x ran from left to right: the axes are those of the patient now, the voxels where they were
    np.testing.assert_allclose(kept[:3, 3], (affine @ [0, 4, 65, 1])[:3])
    halved = np.array(levels[1][1]) / scale
    assert 2 in halved
    # viewers show it unrotated, so every level begins half of its own voxels later along its own axes
    np.testing.assert_allclose(np.array(levels[1][2]) - translation, (halved - 1) / 2 * scale)


def test_odd_sizes_and_unknown_geometry(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (5, 131, 67, 3), np.uint8)
    write_ome_zarr(tmp_path / "a.ome.zarr", Picture(values, None))
    levels, metadata = levels_of(tmp_path / "a.ome.zarr")
    assert "unit" not in metadata["axes"][1]
    np.testing.assert_array_equal(levels[0][0], np.moveaxis(values, -1, 0))
    assert [data.shape[1:] for data, *_ in levels] == [(5, 131, 67), (3, 66, 34), (2, 33, 17)]
    np.testing.assert_array_equal(levels[1][1], [1, 2, 2, 2])
    np.testing.assert_array_equal(levels[1][2], [0, 0.5, 0.5, 0.5])
    blocks = values[:4, :130, :66].astype(float).reshape(2, 2, 65, 2, 33, 2, 3).mean(axis=(1, 3, 5))
    assert np.abs(np.moveaxis(levels[1][0], 0, -1)[:2, :65, :33] - blocks).max() <= 1.5

"""Masks of objects: every id is read as it is stored, and what has none is refused."""

from __future__ import annotations

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr

from featlift.errors import OptionError, VolumeError
from featlift.volumes import Instances, Reading, Source, read, read_instances, write_instances
from featlift.volumes.instances import instances_in
from tests.support.files import ARRAYS, FORMATS, OBLIQUE, save

SHAPE = (4, 5, 6)
NEURONS = "volumes/labels/neuron_ids"


def ids(dtype: str, largest: int) -> np.ndarray:
    """More objects than a mask of labels may have, next to each other where float32 rounds."""
    array = largest - np.arange(np.prod(SHAPE), dtype=dtype).reshape(SHAPE)
    array[0, 0] = 0
    return array


@pytest.mark.parametrize("name", [name for name in (*FORMATS, *ARRAYS) if name != "analyze.hdr"])
@pytest.mark.parametrize(("dtype", "largest"), [("uint32", 2**32 - 1), ("uint64", 2**64 - 1), ("int64", 2**62)])
def test_ids_are_exact_in_every_format(tmp_path, name, dtype, largest):
    want = ids(dtype, largest)
    found = read_instances(save(tmp_path / name, want))
    assert found.array.dtype == np.uint64
    assert found.array.flags.writeable
    assert found.source is not None
    np.testing.assert_array_equal(found.array, want)
    if name in FORMATS:
        np.testing.assert_allclose(found.affine, OBLIQUE, atol=1e-4)
        np.testing.assert_allclose(found.resolution, (3e6, 9e5, 7e5), rtol=1e-6)


def test_nifti_with_a_scaling_that_changes_nothing(tmp_path):
    want = ids("uint32", 2**32 - 1)
    image = nib.Nifti1Image(want.T, np.eye(4), dtype="uint32")
    image.header.set_slope_inter(1, 0)
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([1, 0], "<f4").tobytes()  # as ITK writes them, which nibabel leaves undefined
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_array_equal(read_instances(tmp_path / "a.nii").array, want)


@pytest.mark.parametrize("suffix", [".hdf", ".zarr"])
def test_cremi_says_where_its_arrays_lie(tmp_path, suffix):
    want, path = ids("uint64", 2**64 - 1), tmp_path / f"sample_A{suffix}"
    root = h5py.File(path, "w") if suffix == ".hdf" else zarr.open_group(path, mode="w")
    create = root.create_dataset if suffix == ".hdf" else root.create_array
    for name, array in ((NEURONS, want), ("volumes/raw", want.astype(np.uint8))):
        create(name, data=array).attrs["resolution"] = [40.0, 4.0, 4.0]
    root[NEURONS].attrs["offset"] = [1520.0, 3644.0, 0.0]
    create("elsewhere", data=want).attrs["resolution"] = [1.0, 2.0, 3.0]
    if suffix == ".hdf":
        root.close()
    found = read_instances(f"{path}::{NEURONS}")
    np.testing.assert_array_equal(found.array, want)
    np.testing.assert_allclose(found.resolution, (40, 4, 4))
    np.testing.assert_allclose(found.affine @ [2, 1, 0, 1], [0, 0.003648, 0.0016, 1])
    np.testing.assert_allclose(read(path, key="volumes/raw").spacing, (4e-5, 4e-6, 4e-6))
    assert read(path, key="elsewhere").affine is None


@pytest.mark.parametrize("resolution", [[40.0, 4.0], [40.0, 4.0, 0.0], "40 nm"])
def test_a_resolution_that_is_none(tmp_path, resolution):
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        file.create_dataset(NEURONS, data=ids("uint64", 200)).attrs["resolution"] = resolution
    with pytest.raises(VolumeError, match=r"a\.hdf: .*resolution|a\.hdf: damaged HDF5 header"):
        read_instances(f"{tmp_path / 'a.hdf'}::{NEURONS}")


def test_what_holds_no_ids(tmp_path):
    np.save(tmp_path / "float.npy", np.ones(SHAPE, np.float32))
    np.save(tmp_path / "negative.npy", np.full(SHAPE, -1))
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float64), np.eye(4)), tmp_path / "a.nii.gz")
    tifffile.imwrite(tmp_path / "a.tif", np.ones(SHAPE, np.float32), photometric="minisblack")
    for name, why in (
        ("float.npy", "float32"),
        ("negative.npy", "least is -1"),
        ("a.nii.gz", "float"),
        ("a.tif", "32"),
    ):
        with pytest.raises(VolumeError, match=rf"{name}: no ids of objects: .*{why}"):
            read_instances(tmp_path / name)


@pytest.mark.parametrize("name", ["a.h5", "a.hdf", "a.zarr", "a.nii.gz"])
@pytest.mark.parametrize("largest", [200, 2**32 - 1, 2**64 - 1])
def test_what_is_written_is_read_again(tmp_path, name, largest):
    place = np.array([[0, 0, 4e-6, 1e-3], [0, 4e-6, 0, 2e-3], [4e-5, 0, 0, 0], [0, 0, 0, 1]])
    want = Instances(ids("uint64", largest), place)
    found = read_instances(write_instances(tmp_path / name, want))
    np.testing.assert_array_equal(found.array, want.array)
    np.testing.assert_allclose(found.affine, place, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.resolution, (40, 4, 4), rtol=1e-5)
    without = read_instances(write_instances(tmp_path / name, Instances(want.array)))
    assert without.affine is None
    np.testing.assert_array_equal(without.array, want.array)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(VolumeError, match="no turned or flipped axes"):
        write_instances(tmp_path / "a.h5", Instances(ids("uint64", 200), OBLIQUE))
    write_instances(tmp_path / "a.nii", Instances(ids("uint64", 200), OBLIQUE))
    with pytest.raises(OptionError, match=r"a\.tif: masks of instances are written as"):
        write_instances(tmp_path / "a.tif", Instances(ids("uint64", 200)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_named_structures_are_no_objects(tmp_path):
    path = write_instances(tmp_path / "liver.nii", Instances(ids("uint64", 200), OBLIQUE))
    with pytest.raises(VolumeError, match="structures with names"):
        instances_in(Source(path, labels=(("liver", 1),)), Reading())

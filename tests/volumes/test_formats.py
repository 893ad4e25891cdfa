"""The same array in every format is the same volume, and what the format's own library says it is."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from featlift.volumes import read
from featlift.volumes.discovery.series import source_of
from featlift.volumes.opening import files_of
from tests.support.files import ARRAYS, DETACHED, FORMATS, OBLIQUE, RAS_TO_LPS, REVERSED, noise, save

EVERY = [*FORMATS, *DETACHED, *ARRAYS]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("name", EVERY)
def test_a_scan_is_the_same_in_every_format(tmp_path, name):
    volume = read(save(tmp_path / name, noise()))
    assert type(volume.array) is np.ndarray  # no window onto the file
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert volume.array.flags.writeable
    np.testing.assert_array_equal(volume.array, noise())
    if name in ARRAYS:
        assert volume.affine is None
        assert volume.spacing is None
    else:
        np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)
        np.testing.assert_allclose(volume.spacing, (3, 0.9, 0.7), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in [*DETACHED, *ARRAYS]
        for dtype in [*INTEGERS, "float32", "float64"]
        if name != "analyze.hdr" or dtype in ("uint8", "int16", "int32", "float32", "float64")  # all that it has
    ],
)
def test_every_number_type_reads(tmp_path, name, dtype):
    array = noise(dtype=dtype)
    if dtype.startswith(("int", "float")):
        array -= 50
    np.testing.assert_array_equal(read(save(tmp_path / name, array)).array, array)


@pytest.mark.parametrize("name", ["c.npy", "fortran.npz", "raw.h5", "raw.tif", "2.zarr", "3.zarr"])
@pytest.mark.parametrize("dtype", ["bool", "float16"])
def test_masks_and_half_precision(tmp_path, name, dtype):
    array = (noise() > 50).astype(dtype)
    np.testing.assert_array_equal(read(save(tmp_path / name, array)).array, array)


@pytest.mark.parametrize("name", ["c.npy", "fortran.npy", "zipped.npz", "raw.h5", "2.zarr", "3.zarr"])
@pytest.mark.parametrize("dtype", [">i2", ">u4", ">f4", ">f8"])
def test_big_endian_arrays(tmp_path, name, dtype):
    np.testing.assert_array_equal(read(save(tmp_path / name, noise(dtype=dtype))).array, noise())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_big_endian_tiff(tmp_path, dtype, compression):
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, noise(dtype=dtype), byteorder=">", compression=compression, photometric="minisblack")
    assert path.read_bytes()[:2] == b"MM"
    np.testing.assert_array_equal(read(path).array, noise())


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair, nib.AnalyzeImage])
def test_big_endian_pairs(tmp_path, kind):
    nib.save(kind(noise().T, np.eye(4), kind.header_class(endianness=">")), tmp_path / "a.hdr")
    assert nib.load(tmp_path / "a.hdr").header.endianness == ">"
    np.testing.assert_array_equal(read(tmp_path / "a.hdr").array, noise())


@pytest.mark.parametrize("name", [name for name in [*FORMATS, *DETACHED] if not name.startswith("2")])  # ITK: NIfTI-1
def test_itk_reads_the_same(tmp_path, name):
    path = save(tmp_path / name, noise())
    volume, image = read(path), sitk.ReadImage(path)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    for corner in [(0, 0, 0), (6, 0, 0), (0, 10, 0), (0, 0, 12), (6, 10, 12)]:
        place = volume.affine @ (*corner, 1)
        np.testing.assert_allclose(place[:3], image.TransformIndexToPhysicalPoint(corner[::-1]), atol=1e-3)


@pytest.mark.parametrize("name", ["1.nii", "2.nii.gz", "1.hdr", "2.hdr", "analyze.hdr"])
def test_nibabel_reads_the_same(tmp_path, name):
    path = save(tmp_path / name, noise())
    volume, image = read(path), nib.load(path)
    np.testing.assert_array_equal(volume.array.T, image.get_fdata())
    if name != "analyze.hdr":
        np.testing.assert_allclose(volume.affine, RAS_TO_LPS @ image.affine @ REVERSED, atol=1e-5)


def test_analyze_has_no_place_although_nibabel_makes_one_up(tmp_path):
    image = nib.AnalyzeImage(noise().T, np.diag([2, 2, 2, 1]))
    nib.save(image, tmp_path / "analyze.hdr")
    assert nib.load(tmp_path / "analyze.hdr").affine is not None
    assert read(tmp_path / "analyze.hdr").affine is None


def test_the_scaling_of_a_pair(tmp_path):
    image = nib.Nifti1Pair(noise().T, np.eye(4))
    image.header.set_slope_inter(2, -10)
    image.header.set_data_dtype("int16")
    nib.save(image, tmp_path / "1.hdr")
    np.testing.assert_allclose(read(tmp_path / "1.hdr").array.T, nib.load(tmp_path / "1.hdr").get_fdata(), atol=1e-4)


@pytest.mark.parametrize("name", DETACHED)
def test_the_source_of_a_pair_is_both_files(tmp_path, name):
    """A change of one byte of the voxels, the header untouched, is another scan."""
    path = save(tmp_path / name, noise())
    header, voxels = files_of(source_of(path))
    assert (header, voxels.parent) == (path, tmp_path)
    before = read(path).source
    assert before["bytes"] == header.stat().st_size + voxels.stat().st_size
    save(path, noise()[::-1].copy())
    assert read(path).source["sha256"] != before["sha256"]


@pytest.mark.parametrize("name", EVERY)
def test_an_affine_that_is_changed_is_not_that_of_the_next_reading(tmp_path, name):
    path = save(tmp_path / name, noise())
    volume = read(path)
    volume.array[:] = -1
    if volume.affine is not None:
        volume.affine[:] = -1
        np.testing.assert_allclose(read(path).affine, OBLIQUE, atol=1e-4)
    np.testing.assert_array_equal(read(path).array, noise())


@pytest.mark.parametrize("name", [name for name in EVERY if name not in DETACHED and name != "analyze.hdr"])
def test_names_in_capitals(tmp_path, name):
    path = save(tmp_path / name, noise())
    np.testing.assert_array_equal(read(path.rename(tmp_path / name.upper())).array, noise())


@pytest.mark.parametrize("name", DETACHED)
def test_names_of_pairs_in_capitals(tmp_path, name):
    path = save(tmp_path / name, noise())
    if name.endswith(".hdr"):  # other headers name the file of their voxels
        path.with_suffix(".img").rename(path.with_name(name.upper()).with_suffix(".IMG"))
    np.testing.assert_array_equal(read(path.rename(tmp_path / name.upper())).array, noise())

"""Images of four dimensions are several volumes: one is chosen, or each is a case."""

from __future__ import annotations

import os
import tracemalloc

import h5py
import nibabel as nib
import numpy as np
import pytest
import zarr

from featlift.errors import OptionError, VolumeError
from featlift.volumes import Selection, find_scans, read
from featlift.volumes.channels import read_scan
from tests.support.files import ARRAYS, DETACHED, FORMATS, OBLIQUE, noise, save

FOUR = np.stack([noise(), noise() + 1, noise()[::-1]])
EVERY = [*FORMATS, *DETACHED, *ARRAYS]
#: Compressed as a whole: to read one frame is to read all.
PACKED = ["1.nii.gz", "gzip.nrrd", "zlib.mha", "zipped.npz", "zlib.tiff"]


@pytest.mark.parametrize("name", EVERY)
def test_one_frame_of_several(tmp_path, name):
    path = save(tmp_path / name, FOUR)
    for frame, want in enumerate(FOUR):
        volume = read(path, frame=frame)
        np.testing.assert_array_equal(volume.array, want)
        assert volume.array.flags.c_contiguous
        if "nii" in name or name in ("1.hdr", "2.hdr"):
            np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("name", EVERY)
def test_several_frames_and_none_chosen(tmp_path, name):
    path = save(tmp_path / name, FOUR)
    with pytest.raises(VolumeError, match=rf"^{name}: 3 frames: choose with --frame N, or take --frame all$"):
        read(path)
    for frame in (3, -1, 99):
        with pytest.raises(VolumeError, match=rf"^{name}: no frame {frame}: it has 3, counted from 0$"):
            read(path, frame=frame)


@pytest.mark.parametrize("name", EVERY)
def test_a_single_volume_is_its_frame_0(tmp_path, name):
    path = save(tmp_path / name, noise())
    np.testing.assert_array_equal(read(path, frame=0).array, noise())
    with pytest.raises(VolumeError, match="no frame 1: it has 1, counted from 0"):
        read(path, frame=1)


@pytest.mark.parametrize("name", ["c.npy", "zipped.npz", "raw.h5", "2.zarr", "3.zarr"])
def test_axes_of_one_may_stand_before_the_frames(tmp_path, name):
    path = save(tmp_path / name, FOUR[None])
    with pytest.raises(VolumeError, match="3 frames"):
        read(path)
    np.testing.assert_array_equal(read(path, frame=2).array, FOUR[2])


@pytest.mark.parametrize("name", EVERY)
def test_five_dimensions_are_refused(tmp_path, name):
    save(tmp_path / name, np.stack([FOUR, FOUR]))
    with pytest.raises(VolumeError, match=r"5 dimensions \(2 x 3 x 7 x 11 x 13\): split it into 3D volumes"):
        read(tmp_path / name)


def test_the_frames_of_a_4d_nifti_are_those_of_nibabel(tmp_path):
    image = nib.Nifti1Image(FOUR.T, np.diag([1, 2, 3, 1]))
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "bold.nii.gz")
    want = nib.load(tmp_path / "bold.nii.gz").get_fdata()
    for frame in range(3):
        np.testing.assert_allclose(read(tmp_path / "bold.nii.gz", frame=frame).array.T, want[..., frame], atol=1e-4)


def test_frames_on_a_nrrd_axis_that_is_in_no_space(tmp_path):
    """As 3D Slicer writes sequences."""
    header = (
        "NRRD0005\ntype: short\ndimension: 4\nspace: left-posterior-superior\nsizes: 13 11 7 3\nendian: little\n"
        "space directions: (0.7,0,0) (0,0.9,0) (0,0,3) none\nkinds: domain domain domain list\nencoding: raw\n"
        "space origin: (1,2,3)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + FOUR.astype("<i2").tobytes())
    volume = read(tmp_path / "a.nrrd", frame=1)
    np.testing.assert_array_equal(volume.array, FOUR[1])
    np.testing.assert_allclose(volume.affine, [[0, 0, 0.7, 1], [0, 0.9, 0, 2], [3, 0, 0, 3], [0, 0, 0, 1]])


SPACE = "space: LPS\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)"


@pytest.mark.parametrize(
    ("sizes", "fields"),
    [
        ("3 20 30 40", "kinds: vector domain domain domain"),
        ("3 20 30 40", SPACE),
        ("3 20 30", "kinds: RGB-color domain domain"),
        ("20 30 3", "kinds: domain vector domain"),
    ],
)
def test_the_values_of_a_voxel_are_no_frames_and_no_slices(tmp_path, sizes, fields):
    header = f"NRRD0004\ntype: uchar\ndimension: {len(sizes.split())}\nsizes: {sizes}\nencoding: raw\n{fields}\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(3 * 20 * 30 * 40))
    with pytest.raises(VolumeError, match="values a voxel: save it with one value a voxel"):
        read(tmp_path / "a.nrrd")


def ids(*args) -> list[str]:
    return [scan.id for scan in find_scans(*args).scans]


def test_each_frame_is_a_case(tmp_path):
    save(tmp_path / "1.nii.gz", FOUR)
    save(tmp_path / "raw.nrrd", noise())
    found = find_scans([tmp_path], Selection(frame="all"))
    assert [scan.id for scan in found.scans] == ["1__frame0", "1__frame1", "1__frame2", "raw"]
    for scan, want in zip(found.scans, [*FOUR, noise()], strict=True):
        assert scan.name == ("raw.nrrd" if scan.id == "raw" else "1.nii.gz")
        np.testing.assert_array_equal(read_scan(scan).array, want)
    assert ids([tmp_path / "1.nii.gz"], Selection(frame="all")) == ["1__frame0", "1__frame1", "1__frame2"]


def test_one_frame_of_each_file(tmp_path):
    save(tmp_path / "1.nii.gz", FOUR)
    save(tmp_path / "raw.h5", FOUR)
    found = find_scans([tmp_path], Selection(frame=1))
    assert [scan.id for scan in found.scans] == ["1", "raw"]
    for scan in found.scans:
        np.testing.assert_array_equal(read_scan(scan).array, FOUR[1])


def test_the_frames_of_an_array_in_a_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x/y"] = FOUR
    assert ids([f"{tmp_path / 'a.h5'}::x/y"], Selection(frame="all")) == [f"a__x__y__frame{n}" for n in range(3)]
    zarr.create_array(tmp_path / "a.zarr", data=FOUR)
    assert ids([tmp_path / "a.zarr"], Selection(frame="all")) == [f"a__frame{n}" for n in range(3)]


def test_a_file_that_cannot_be_opened_is_still_a_case_that_will_fail(tmp_path):
    """One damaged file among thousands is a failure of that case, not of the search."""
    save(tmp_path / "1.nii.gz", FOUR)
    (tmp_path / "bad.nii").write_text("not a scan")
    assert ids([tmp_path], Selection(frame="all")) == ["1__frame0", "1__frame1", "1__frame2", "bad"]


def test_frames_and_channels_together_make_no_sense(tmp_path):
    save(tmp_path / "1.nii.gz", FOUR)
    for frame in (0, "all"):
        with pytest.raises(OptionError, match="--channels 0,1,2 takes frames, and so does --frame: give one of them"):
            find_scans([tmp_path], Selection(frame=frame, channels=("0", "1", "2")))


@pytest.mark.parametrize("name", PACKED)
def test_a_compressed_file_is_decoded_once_for_all_its_frames(tmp_path, name):
    """Its bytes are gone after the first frame; only its size and time are still those of the file."""
    path = save(tmp_path / name, FOUR)
    assert read(path, frame=0).array.shape == noise().shape
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for frame in (1, 2, 0):
        np.testing.assert_array_equal(read(path, frame=frame).array, FOUR[frame])


@pytest.mark.parametrize("name", PACKED)
def test_a_file_that_was_replaced_is_read_again(tmp_path, name):
    path = save(tmp_path / name, FOUR)
    assert read(path, frame=0).array.shape == noise().shape
    before = path.stat().st_mtime_ns
    save(path, FOUR[::-1].copy())
    os.utime(path, ns=(before + 1, before + 1))
    np.testing.assert_array_equal(read(path, frame=0).array, FOUR[2])


@pytest.mark.parametrize("name", EVERY)
def test_what_is_remembered_of_a_file(tmp_path, name):
    """Of a compressed file its frames, until the next file; of a single volume nothing."""
    big = np.zeros((64, 64, 64), "int16")
    several, single, small = save(tmp_path / name, np.stack([big, big])), tmp_path / "single", tmp_path / "small"
    for folder in (single, small):
        folder.mkdir()
    single, small = save(single / name, big), save(small / name, noise())
    read(small)
    tracemalloc.start()
    try:
        read(single)
        assert tracemalloc.get_traced_memory()[0] < 300_000
        read(several, frame=0)
        assert tracemalloc.get_traced_memory()[0] < 2 * big.nbytes + 300_000
        read(small)
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()

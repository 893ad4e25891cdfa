"""Headers whose voxels are in another file: only one beside them, and all of it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from featlift.errors import VolumeError
from featlift.volumes import read
from tests.support.files import DETACHED, noise, save

HEADERS = ["raw.mhd", "zlib.mhd", "raw.nhdr", "gzip.nhdr"]


def data_of(header: Path) -> Path:
    return next(file for file in header.parent.iterdir() if file.is_file() and file != header)


def pointing_to(header: Path, name: str) -> None:
    """Let the header name another file."""
    field = b"ElementDataFile = " if header.suffix == ".mhd" else b"data file: "
    lines = [line for line in header.read_bytes().split(b"\n") if line and not line.startswith(field)]
    header.write_bytes(b"\n".join([*lines, field + name.encode(), b"", b""]))


def refused(path: Path, match: str) -> None:
    with pytest.raises(VolumeError, match=match) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path.name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", HEADERS)
def test_voxels_beside_and_below(tmp_path, name):
    path = save(tmp_path / name, noise())
    np.testing.assert_array_equal(read(path).array, noise())
    (tmp_path / "below").mkdir()
    data_of(path).rename(tmp_path / "below" / "other name.bin")
    pointing_to(path, "below/other name.bin")
    np.testing.assert_array_equal(read(path).array, noise())
    if name != "gzip.nhdr":  # which ITK will not open under another name
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)), noise())


@pytest.mark.parametrize("name", HEADERS)
def test_voxels_elsewhere_are_never_read(tmp_path, name):
    """Whoever wrote the header could name any file of this machine."""
    folder = tmp_path / "in"
    folder.mkdir()
    path = save(folder / name, noise())
    outside = data_of(path).rename(tmp_path / "outside.raw")
    for place in ("../outside.raw", "./../outside.raw", "below/../../outside.raw", str(outside), "/etc/passwd"):
        pointing_to(path, place)
        refused(path, "which is not beside it: save header and voxels as one file")


@pytest.mark.parametrize("name", HEADERS)
def test_voxels_that_are_missing(tmp_path, name):
    path = save(tmp_path / name, noise())
    data_of(path).unlink()
    refused(path, "there is no such file beside it: copy that one too")
    (tmp_path / "folder").mkdir()
    for place in ("folder", "."):
        pointing_to(path, place)
        refused(path, "there is no such file beside it: copy that one too")


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("place", ["LIST", "LIST 2", "slice%03d.raw 0 6 1", "slice%d.raw 0 6 1 2"])
def test_voxels_in_several_files(tmp_path, name, place):
    path = save(tmp_path / name, noise())
    pointing_to(path, place)
    refused(path, "its voxels are in several files: save header and voxels as one file")


def test_a_name_in_a_header_may_be_empty(tmp_path):
    path = save(tmp_path / "raw.mhd", noise())
    pointing_to(path, "")
    refused(path, "which is not beside it")


@pytest.mark.parametrize("name", DETACHED)
def test_half_of_the_voxels(tmp_path, name):
    path = save(tmp_path / name, noise())
    data = data_of(path)
    content = data.read_bytes()
    for tenths in range(10):
        data.write_bytes(content[: len(content) * tenths // 10])
        refused(path, "copy it again")


@pytest.mark.parametrize("name", ["1.hdr", "2.hdr", "analyze.hdr"])
def test_a_pair_without_its_image(tmp_path, name):
    path = save(tmp_path / name, noise())
    path.with_suffix(".img").unlink()
    refused(path, r"its voxels are in '.*\.img', and there is no such file beside it: copy that one too")


@pytest.mark.parametrize("content", [b"", b"ENVI\nsamples = 3\n" * 99, bytes(348), bytes(600)])
def test_another_hdr(tmp_path, content):
    """The suffix is also that of ENVI, of radiance images, of others."""
    (tmp_path / "a.hdr").write_bytes(content)
    (tmp_path / "a.img").write_bytes(bytes(99))
    refused(tmp_path / "a.hdr", "neither a NIfTI nor an Analyze header")


def test_an_analyze_header_that_makes_no_sense(tmp_path):
    path = save(tmp_path / "analyze.hdr", noise())
    content = path.read_bytes()
    for at, values, match in [
        (40, (3, 0, 11, 13), "an axis without voxels"),
        (40, (2, 7, 11), "a single image"),
        (40, (3, 3000, 3000, 3000), "truncated|more than the"),
        (70, (999,), "damaged (Analyze|NIfTI) header"),
    ]:
        changed = bytearray(content)
        changed[at : at + 2 * len(values)] = np.array(values, "<i2").tobytes()
        path.write_bytes(changed)
        refused(path, match)


def test_the_image_of_a_pair_is_no_scan_of_its_own(tmp_path):
    path = save(tmp_path / "1.hdr", noise())
    refused(path.with_suffix(".img"), "not one of the formats read here")


def test_a_pair_whose_voxels_start_later(tmp_path):
    image = nib.Nifti1Pair(noise().T, np.eye(4))
    image.header["vox_offset"] = 16
    nib.save(image, tmp_path / "1.hdr")
    np.testing.assert_array_equal(nib.load(tmp_path / "1.hdr").get_fdata().T, noise())
    np.testing.assert_array_equal(read(tmp_path / "1.hdr").array, noise())


@pytest.mark.parametrize(("name", "pack"), [("zlib.mhd", zlib.compress), ("gzip.nhdr", gzip.compress)])
def test_a_bomb_beside_a_header(tmp_path, name, pack):
    """A hundred megabytes behind two thousand bytes: they are read through, and never held."""
    path = save(tmp_path / name, noise())
    data_of(path).write_bytes(pack(noise().tobytes() + bytes(100 << 20)))
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(read(path).array, noise())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()

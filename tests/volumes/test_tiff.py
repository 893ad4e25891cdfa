"""Multi-page TIFF as tifffile, ImageJ and Pillow write it."""

from __future__ import annotations

import logging
import re
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from featlift.errors import VolumeError
from featlift.volumes import read
from tests.support.files import noise

FIVE = np.random.default_rng(1).integers(0, 999, (2, 5, 3, 11, 13)).astype("uint16")  # T Z C Y X


def refused(path: Path, match: str) -> None:
    with pytest.raises(VolumeError, match=match) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path.name}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def pillow(path: Path, compression: str | None = None) -> Path:
    pages = [Image.fromarray(page) for page in noise(dtype="uint8")]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"imagej": True}, {"tile": (16, 16)}], ids=str
)
def test_pages_are_slices(tmp_path, dtype, options):
    tifffile.imwrite(tmp_path / "a.tif", noise(dtype=dtype), photometric="minisblack", **options)
    volume = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array, noise(dtype=dtype))
    np.testing.assert_array_equal(volume.array, tifffile.imread(tmp_path / "a.tif"))
    assert volume.affine is None


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate", "packbits", "tiff_lzw"])
def test_pages_that_pillow_writes_one_by_one(tmp_path, compression):
    np.testing.assert_array_equal(read(pillow(tmp_path / "a.tiff", compression)).array, noise())


@pytest.mark.parametrize(
    ("axes", "array", "imagej"),
    [
        ("TZYX", FIVE[:, :, 0], True),
        ("TZYX", FIVE[:, :, 0], False),
        ("ZCYX", FIVE[0], True),  # the channels of a slice one after the other, as ImageJ stores them
        ("ZCYX", FIVE[0], False),
        ("CZYX", FIVE[0].swapaxes(0, 1), False),
        ("TZCYX", FIVE[:1], True),
    ],
)
def test_time_points_and_channels_are_frames(tmp_path, axes, array, imagej):
    path = tmp_path / ("a.tif" if imagej else "a.ome.tif")
    tifffile.imwrite(path, array, imagej=imagej, metadata={"axes": axes}, photometric="minisblack")
    frames = np.moveaxis(array, axes.index("Z"), -3).reshape(-1, 5, 11, 13)
    with pytest.raises(VolumeError, match=f"{len(frames)} frames: choose with --frame N"):
        read(path)
    for number, frame in enumerate(frames):
        volume = read(path, frame=number)
        np.testing.assert_array_equal(volume.array, frame)
        assert volume.array.flags.c_contiguous


def test_time_points_of_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FIVE, imagej=True)
    refused(tmp_path / "a.tif", r"5 dimensions \(2 x 3 x 5 x 11 x 13\): split it into 3D volumes")


def test_colours(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 11, 13, 3), "uint8"), photometric="rgb")
    refused(tmp_path / "a.tif", "colour pages: convert it to one value a voxel")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((5, 3, 11, 13), "uint8"), photometric="rgb", planarconfig="separate")
    refused(tmp_path / "b.tif", "colour pages: convert it to one value a voxel")


def test_complex_pages(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise().astype("complex64"))
    refused(tmp_path / "a.tif", "complex voxels: give magnitude or phase")


def test_one_page(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise()[0])
    refused(tmp_path / "a.tif", r"a single image \(11 x 13\)")


def test_pages_of_several_sizes_are_not_cut_short(tmp_path):
    """tifffile gives the first of them only."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(dtype="uint8"), photometric="minisblack")
        file.write(np.zeros((4, 5), "uint8"), photometric="minisblack")
    assert tifffile.imread(tmp_path / "a.tif").shape == noise().shape
    refused(tmp_path / "a.tif", "2 images one by one: save its slices as one stack")


def pages(path: Path) -> Path:
    """Page by page, each with a header of its own, as microscopes write them."""
    with tifffile.TiffWriter(path) as file:
        for page in noise(dtype="uint16"):
            file.write(page, photometric="minisblack", metadata=None)
    return path


def stack(path: Path, **options: object) -> Path:
    tifffile.imwrite(path, noise(dtype="uint16"), photometric="minisblack", **options)
    return path


@pytest.mark.parametrize(
    "written",
    [
        *(pillow, partial(pillow, compression="tiff_adobe_deflate"), partial(pillow, compression="tiff_lzw"), pages),
        *(stack, partial(stack, compression="zlib"), partial(stack, imagej=True), partial(stack, tile=(16, 16))),
    ],
    ids=lambda written: str(getattr(written, "keywords", written.__class__.__name__)),
)
def test_no_page_is_lost_silently(tmp_path, written):
    """tifffile gives the pages that are there, and only logs the rest."""
    content = written(tmp_path / "a.tif").read_bytes()
    path = tmp_path / "short.tif"
    for length in range(0, len(content) - 1, len(content) // 40):
        path.write_bytes(content[:length])
        try:
            volume = read(path)
        except VolumeError as error:
            assert re.match(r"short\.tif: .*TIFF.*: copy it again$", str(error))  # noqa: PT017
        else:  # what is cut off are headers that say nothing new
            np.testing.assert_array_equal(volume.array, noise())


@pytest.mark.parametrize("content", [b"", b"not a TIFF\n" * 99, b"II*\x00" + bytes(99), b"II*\x00\xff\xff\xff\xff"])
def test_no_tiff(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    refused(tmp_path / "a.tif", "TIFF.*: copy it again")


def test_what_others_log_is_not_of_this_file(tmp_path):
    """Nor are their messages lost when nothing is being read here."""
    tifffile.imwrite(tmp_path / "a.tif", noise(dtype="uint8"), photometric="minisblack")
    logger, stop = logging.getLogger("tifffile"), threading.Event()
    before = list(logger.filters)

    def complain() -> None:
        while not stop.is_set():
            logger.error("another file is damaged")

    other = threading.Thread(target=complain)
    logger.addHandler(silent := logging.NullHandler())
    logger.propagate = False
    other.start()
    try:
        for _ in range(30):
            assert read(tmp_path / "a.tif").array.shape == noise().shape
    finally:
        stop.set()
        other.join()
        logger.propagate = True
        logger.removeHandler(silent)
    assert logger.filters == before

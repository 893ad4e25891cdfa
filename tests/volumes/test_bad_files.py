"""Whatever is wrong with a file is one line that names the file and the trouble, and nothing else."""

from __future__ import annotations

import gzip
import os
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from featlift.errors import FeatliftError, InputError, VolumeError
from featlift.volumes import Preparation, prepare, read
from tests.support.files import ARRAYS, DETACHED, FORMATS, noise, save

EVERY = [*FORMATS, *DETACHED, *ARRAYS]
ONE_FILE = [name for name in [*FORMATS, *ARRAYS] if not name.endswith((".hdr", ".zarr"))]


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, bytes]:
    """A good file of every format."""
    folder = tmp_path_factory.mktemp("good")
    return {name: save(folder / name, noise()).read_bytes() for name in FORMATS}


def refused(path: Path, trouble: str) -> None:
    with pytest.raises(FeatliftError) as caught:
        read(path)
    message = str(caught.value)
    assert type(caught.value) is VolumeError
    assert message.startswith(f"{path.name}: ")
    assert trouble in message
    assert "\n" not in message
    assert len(message) < 250


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def payload_start(content: bytes) -> int:
    """Where the voxels of a NRRD or MHA begin."""
    end = b"\n\n" if content.startswith(b"NRRD") else b"LOCAL\n"
    return content.index(end) + len(end)


def replaced(content: bytes, at: int, form: str, *values: float) -> bytes:
    """With other values in a binary header."""
    changed = bytearray(content)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def with_field(content: bytes, name: str, value: str) -> bytes:
    """With another value, or none, of a field of a text header."""
    lines = content[: payload_start(content)].decode().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith(name))
    lines[at : at + 1] = [f"{name}{'=' if content.startswith(b'Object') else ': '}{value}"] if value else []
    return "\n".join(lines).encode() + content[payload_start(content) :]


@pytest.mark.parametrize("name", [name for name in ONE_FILE if "tif" not in name])  # those are in test_tiff.py
@pytest.mark.parametrize("tenths", range(10))
def test_truncated(tmp_path, name, tenths):
    path = save(tmp_path / name, noise())
    content = path.read_bytes()
    refused(write(tmp_path, name, content[: len(content) * tenths // 10]), "")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "1.nii"])
def test_the_last_byte_is_missing(tmp_path, good, name):
    refused(write(tmp_path, name, good[name][:-1]), "copy it again")


@pytest.mark.parametrize("name", ["1.nii.gz", "2.nii.gz", "gzip.nrrd", "zlib.mha"])
def test_no_flipped_bit_goes_unnoticed_in_compressed_data(tmp_path, good, name):
    """Wherever it is: in the stream, in the checksum at its end."""
    content = good[name]
    start = 24 if ".nii" in name else payload_start(content) + 10  # behind gzip's time stamp and file name
    for at in {*np.linspace(start, len(content) - 1, 60).astype(int), *range(len(content) - 4, len(content))}:
        flipped = bytearray(content)
        flipped[at] ^= 1 << (at % 8)
        refused(write(tmp_path, name, flipped), "")


def test_damage_behind_the_voxels_is_noticed_too(tmp_path, good):
    content = bytearray(gzip.compress(good["1.nii"] + random.Random(0).randbytes(2 << 20), mtime=0))
    content[-5] ^= 1
    refused(write(tmp_path, "long.nii.gz", content), "damaged compressed data")


@pytest.mark.parametrize(
    ("name", "content", "trouble"),
    [
        *[(f"a{suffix}", b"", "") for suffix in (".nii", ".nii.gz", ".nrrd", ".mha")],
        *[(f"a{suffix}", b"not a scan\n" * 99, "") for suffix in (".nii", ".nii.gz", ".nrrd", ".mha")],
        *[(f"a{suffix}", bytes(2 << 20), "") for suffix in (".nii", ".nii.gz", ".nrrd", ".mha")],
        ("a.nii", b"", "it is empty"),
        ("a.nii", b"not a scan\n" * 99, "not a NIfTI file"),
        ("a.nii.gz", b"not a scan\n" * 99, "not gzipped"),
        ("a.nii.gz", gzip.compress(b"not a scan\n" * 99, mtime=0), "not a NIfTI file"),
        ("a.nrrd", b"not a scan\n" * 99, "not a NRRD file"),
        ("a.mha", b"not a scan\n" * 99, "not a MetaImage"),
        ("a.nrrd", b"NRRD0004\n" + b"type: short\n" * 99_999, "header does not end"),
        ("a.nrrd", b"NRRD0004\n\n", "no field 'sizes'"),
        ("a", b"", "not one of the formats"),
        ("a.txt", b"not a scan", "not one of the formats"),
    ],
)
def test_not_a_scan(tmp_path, name, content, trouble):
    refused(write(tmp_path, name, content), trouble)


def test_the_name_is_of_another_format(tmp_path, good):
    refused(write(tmp_path, "a.nii.gz", good["1.nii"]), "not gzipped")
    refused(write(tmp_path, "a.nii", good["raw.nrrd"]), "not a NIfTI file")
    refused(write(tmp_path, "a.nrrd", good["raw.mha"]), "not a NRRD file")
    refused(write(tmp_path, "a.mha", good["1.nii"]), "not a MetaImage")


def test_half_of_a_pair(tmp_path, good):
    refused(write(tmp_path, "1.nii", replaced(good["1.nii"], 344, "4s", b"ni1\0")), "one piece")
    for name, field, value in [("a.mha", "ElementDataFile ", "a.raw"), ("a.nrrd", "kinds", "\ndata file: a.raw")]:
        content = with_field(good[f"raw{name[1:]}"], field, value)
        refused(write(tmp_path, name, content), "voxels are in 'a.raw', and there is no such file beside it")


SHAPES = {  # in NIfTI's order, the fastest axis first
    (-4, 5, 6): "without voxels",
    (0, 5, 6): "without voxels",
    (20, 30): "single image",
    (20, 30, 1): "single image",
    (4, 5, 6, 7): "7 frames: choose with --frame N",
    (2, 3, 4, 5, 6): "5 dimensions (6 x 5 x 4 x 3 x 2): split it into 3D volumes",
    (30_000, 30_000, 30_000): "27,000,000,000,000 voxels",
    (1000, 1000, 1000): "truncated",  # few enough, but more than the file can hold
}


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("nifti", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nifti_of_an_impossible_shape(tmp_path, good, nifti, shape, packed):
    content = good[f"{nifti}.nii"]
    sizes = (len(shape), *shape, *[1] * (7 - len(shape)))
    content = replaced(content, 40, "<8h", *sizes) if nifti == 1 else replaced(content, 16, "<8q", *sizes)
    little_memory(write(tmp_path, "a.nii", packed(content)), SHAPES[shape])


@pytest.mark.parametrize("name", [name for name in FORMATS if "nii" not in name])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nrrd_and_mha_of_an_impossible_shape(tmp_path, good, name, shape):
    sizes = " ".join(map(str, shape))
    if "mha" in name:
        content = with_field(with_field(good[name], "DimSize ", sizes), "NDims ", str(len(shape)))
        for field in ("ElementSpacing ", "Offset ", "TransformMatrix "):
            content = with_field(content, field, "")
    else:
        content = with_field(with_field(good[name], "sizes", sizes), "dimension", str(len(shape)))
        content = with_field(content, "space directions", "")
    little_memory(write(tmp_path, name, content), SHAPES[shape])


@pytest.mark.parametrize("name", ["bomb.nii.gz", "bomb.mha"])
def test_a_bomb_does_not_take_memory(tmp_path, good, name):
    zeros = bytes(256 << 20)
    if name == "bomb.nii.gz":
        content = gzip.compress(good["1.nii"] + zeros, 1)
    else:
        content = good["zlib.mha"][: payload_start(good["zlib.mha"])] + zlib.compress(zeros, 1)
    path = write(tmp_path, name, content)
    tracemalloc.start()
    try:
        assert read(path).array.shape == noise().shape
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def little_memory(path: Path, trouble: str) -> None:
    tracemalloc.start()
    try:
        refused(path, trouble)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", EVERY)
def test_max_voxels(tmp_path, name):
    path = save(tmp_path / name, noise())
    assert read(path, max_voxels=noise().size).array.size == noise().size
    with pytest.raises(VolumeError, match="1,001 voxels, more than the 1,000 allowed"):
        read(path, max_voxels=1000)


@pytest.mark.parametrize("name", ["1.nii.gz", "c.npy", "zipped.npz", "raw.h5", "raw.tif", "3.zarr"])
def test_of_several_frames_all_count(tmp_path, name):
    """They are decoded together."""
    path = save(tmp_path / name, np.stack([noise(), noise()]))
    assert read(path, frame=1, max_voxels=2002).array.size == 1001
    with pytest.raises(VolumeError, match="2,002 voxels, more than the 2,001 allowed"):
        read(path, frame=1, max_voxels=2001)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_more_than_one_value_a_voxel(tmp_path, suffix):
    rgb = np.zeros((4, 5, 6, 3), np.uint8)
    path = tmp_path / f"rgb{suffix}"
    if "nii" in suffix:
        kinds = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(rgb.view(kinds)[..., 0], np.eye(4)), path)
        refused(path, "colour voxels (R/G/B)")
    else:
        sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), path)
        refused(path, "3 values a voxel")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_complex_voxels(tmp_path, suffix):
    path, array = tmp_path / f"complex{suffix}", np.ones((4, 5, 6), np.complex64)
    if "nii" in suffix:
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), path)
    refused(path, "complex" if "nii" in suffix else "2 values a voxel")


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_an_affine_that_cannot_be_inverted(tmp_path, good, value):
    trouble = "affine is not invertible"
    refused(write(tmp_path, "1.nii", replaced(good["1.nii"], 280, "<3f", *[value] * 3)), trouble)
    refused(write(tmp_path, "2.nii", replaced(good["2.nii"], 400, "<3d", *[value] * 3)), trouble)
    refused(write(tmp_path, "a.mha", with_field(good["raw.mha"], "ElementSpacing ", f"1 1 {value}")), trouble)
    same = f"({value},0,0) (1,0,0) (0,0,1)"
    refused(write(tmp_path, "a.nrrd", with_field(good["raw.nrrd"], "space directions", same)), trouble)


@pytest.mark.parametrize(
    ("name", "field", "value", "trouble"),
    [
        ("raw.mha", "DimSize ", "two 3 4", "damaged MetaImage header"),
        ("raw.mha", "DimSize ", "", "no field 'DimSize'"),
        ("raw.mha", "DimSize ", "7 11", "single image"),
        ("raw.mha", "ElementType ", "", "no field 'ElementType'"),
        ("raw.mha", "ElementType ", "MET_STRING", "MET_STRING"),
        ("raw.mha", "TransformMatrix ", "1 0 0 1", "damaged MetaImage header"),
        ("raw.mha", "Offset ", "1 2", "damaged MetaImage header"),
        ("raw.mha", "ElementSpacing ", "one 1 1", "damaged MetaImage header"),
        ("raw.mha", "BinaryData ", "False", "text"),
        ("zlib.mha", "CompressedData ", "False", "truncated"),
        ("raw.mha", "CompressedData ", "True", "damaged compressed data"),
        ("raw.nrrd", "sizes", "two 3 4", "damaged NRRD header"),
        ("raw.nrrd", "sizes", "7 11", "damaged NRRD header"),
        ("raw.nrrd", "type", "block", "'block'"),
        ("raw.nrrd", "type", "", "no field 'type'"),
        ("raw.nrrd", "endian", "", "no field 'endian'"),
        ("raw.nrrd", "endian", "middle", "middle"),
        ("raw.nrrd", "encoding", "hex", "'hex'"),
        ("raw.nrrd", "encoding", "raw\nbyte skip: 5", "behind the header"),
        ("raw.nrrd", "encoding", "raw\nline skip: 1", "behind the header"),
        ("raw.mha", "BinaryData ", "True\nHeaderSize = 5", "behind the header"),
        ("raw.nrrd", "encoding", "gzip", "damaged compressed data"),
        ("raw.nrrd", "space directions", "(1,0) (0,1) (0,0)", "damaged NRRD header"),
        ("raw.nrrd", "space origin", "(1,x,3)", "damaged NRRD header"),
    ],
)
def test_a_text_header_that_makes_no_sense(tmp_path, good, name, field, value, trouble):
    refused(write(tmp_path, name, with_field(good[name], field, value)), trouble)


@pytest.mark.parametrize(
    ("at", "form", "value", "trouble"),
    [
        (70, "<h", 0, "NIfTI header"),
        (70, "<h", 1, "NIfTI header"),
        (70, "<h", 9999, "NIfTI header"),
        (40, "<h", 0, "without voxels"),
        (108, "<f", 1e30, "truncated"),
        (108, "<f", np.inf, "NIfTI header"),
        (108, "<f", np.nan, "NIfTI header"),
        (108, "<f", -352, "NIfTI header"),
        (116, "<f", np.nan, "NIfTI header"),  # an intercept to a good slope
    ],
)
def test_a_nifti_header_that_makes_no_sense(tmp_path, good, at, form, value, trouble):
    content = replaced(good["1.nii"], 112, "<f", 1)
    refused(write(tmp_path, "1.nii", replaced(content, at, form, value)), trouble)


def test_missing(tmp_path):
    for path in (tmp_path / "none.nii", tmp_path / "nowhere" / "none.nii.gz", str(tmp_path / "none.txt")):
        with pytest.raises(InputError, match="no such file"):
            read(path)


def test_no_file(tmp_path):
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "not a file")
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    refused(tmp_path / "loop.nii", "cannot be read (Too many levels of symbolic links)")
    with pytest.raises(VolumeError, match="cannot be read"):
        read(tmp_path / ("x" * 300 + ".nii"))


@pytest.mark.parametrize("suffix", sorted({name[name.index(".") :] for name in EVERY} - {".zarr"}))
def test_what_is_not_a_file_is_not_opened(tmp_path, suffix):
    """It may have no end, or wait for one who writes."""
    (tmp_path / f"endless{suffix}").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    for name in ("endless", "pipe", "folder"):
        refused(tmp_path / f"{name}{suffix}", "not a file: give the scans of a folder one by one")
        for path in (tmp_path / f"{name}{suffix}", f"{tmp_path / name}{suffix}::key"):
            with pytest.raises(VolumeError, match="not a file"):
                read(path, frame=0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", EVERY)
def test_permission_denied(tmp_path, name):
    path = save(tmp_path / name, noise())
    path.chmod(0)
    refused(path, "Permission denied")


def test_bad_files_print_nothing(tmp_path, good):
    """ITK would, and with a wrong NDims end the process; so would nibabel's log for a header that it corrects."""
    bad = {
        "a.mha": good["raw.mha"][:-9],
        "b.mha": good["zlib.mha"][:-9],
        "c.mha": with_field(good["zlib.mha"], "NDims ", "73"),
        "d.mha": with_field(good["raw.mha"], "DimSize ", ""),
        "e.mha": good["zlib.mha"][:-40] + bytes(40),
        "f.nrrd": good["raw.nrrd"][:-9],
        "g.nrrd": good["gzip.nrrd"][:-40] + bytes(40),
        "h.nrrd": with_field(good["raw.nrrd"], "type", "None"),
        "i.nii": replaced(good["1.nii"], 76, "<4f", 0.5, -1, 1, 1),
        "j.nii": replaced(good["1.nii"], 252, "<h", 999),
        "k.nii": replaced(good["1.nii"], 344, "4s", b"n+9\0"),
        "l.tif": b"II*\0" + bytes(99),
        "m.h5": b"\x89HDF\r\n\x1a\n" + bytes(99),
        "n.npz": b"PK\x03\x04" + bytes(99),
        "o.hdr": b"\x5c\x01\0\0" + bytes(344),
        "o.img": bytes(99),
        "p.npy": b"\x93NUMPY\x01\0",
    }
    for name, content in bad.items():
        write(tmp_path, name, content)
    for name in ("raw.tif", "zlib.tiff", "gzip.hdf5", "analyze.hdr"):
        path = save(tmp_path / name, noise())
        bad[name] = path.read_bytes()
        write(tmp_path, name, bad[name][: len(bad[name]) * 2 // 3])
    (save(tmp_path / "3.zarr", noise()) / "c/0/0/0").write_bytes(b"damaged")
    (save(tmp_path / "2.zarr", noise()) / "stray.txt").write_bytes(b"no part of it")
    bad |= {"3.zarr": b"", "2.zarr": b""}
    code = """if True:
        import sys
        from featlift.errors import FeatliftError
        from featlift.volumes import Preparation, prepare, read
        for path in sys.argv[1:]:
            try:
                read(path)
            except FeatliftError:
                pass
    """
    command = [sys.executable, "-c", code, *[str(tmp_path / name) for name in bad]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("value", "trouble"),
    [
        (7, "every voxel is 7: there is nothing to see"),
        (np.nan, "1,001 voxels are NaN or infinite: give --nan-to VALUE"),
    ],
)
@pytest.mark.parametrize("name", ["1.nii.gz", "raw.mha", "c.npy", "gzip.hdf5", "raw.tif", "3.zarr"])
def test_a_file_of_one_value(tmp_path, name, value, trouble):
    """It is read, and refused when it is prepared: with `nan_to` it may be good."""
    volume = read(save(tmp_path / name, np.full(noise().shape, value, "float32")))
    with pytest.raises(VolumeError, match=trouble):
        prepare(volume)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["1.nii.gz", "gzip.nrrd", "raw.mha", "c.npy", "gzip.hdf5", "raw.tif", "3.zarr"])
def test_a_few_voxels_that_are_no_numbers(tmp_path, name, bad):
    array = noise(dtype="float32")
    array[2, 3, 4:6] = bad
    volume = read(save(tmp_path / name, array))
    np.testing.assert_array_equal(volume.array, array)
    with pytest.raises(VolumeError, match="2 voxels are NaN or infinite"):
        prepare(volume)
    native = Preparation(orient="native", nan_to=-1, intensity="none")
    np.testing.assert_array_equal(prepare(volume, native).scan[0], np.where(np.isfinite(array), array, -1))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("error")
def test_sixty_random_mutations(tmp_path, good, name):
    """A volume or an error of ours, whatever happens to the bytes."""
    chance = random.Random(name)
    path = tmp_path / name
    for _ in range(60):
        content = bytearray(good[name])
        for _ in range(chance.choice([1, 1, 4])):
            at = chance.randrange(chance.choice([400, len(content)]))
            new = chance.choice([b"", bytes([content[at % len(content)] ^ 1 << chance.randrange(8)]), b"-9", b"\n"])
            content[at : at + chance.choice([1, 1, 1, 20])] = new
        path.write_bytes(content)
        try:
            volume = read(path)
        except VolumeError as error:
            assert str(error).startswith(f"{name}: ")  # noqa: PT017
        else:
            assert volume.array.ndim == 3
            assert volume.array.dtype == np.float32
            assert volume.affine is None or np.isfinite(np.linalg.inv(volume.affine)).all()
            if name.endswith(".gz"):
                np.testing.assert_array_equal(volume.array, noise())

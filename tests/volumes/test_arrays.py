"""NumPy, HDF5, Zarr: which array of a file is the scan, and what is none."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from featlift.errors import FeatliftError, InputError, VolumeError
from featlift.volumes import Selection, find_scans, read
from featlift.volumes.channels import read_scan
from tests.support.files import noise, save, write_npz

ARRAYS = {"t1": noise(), "deep/er/t2": noise() + 1, "table": noise()[0]}
SEVERAL = ["several.h5", "several.npz", "several.zarr"]


def several(path: Path) -> Path:
    """A file with two scans and an image."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, array in ARRAYS.items():
                file[name] = array
    elif path.suffix == ".npz":
        np.savez(path, **ARRAYS)
    else:
        group = zarr.open_group(path, mode="w")
        for name, array in ARRAYS.items():
            group.create_array(name, data=array)
    return path


def refused(path: Path, match: str, **options: object) -> None:
    with pytest.raises(VolumeError, match=match) as caught:
        read(path, **options)
    assert str(caught.value).startswith(f"{path.name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SEVERAL)
def test_an_array_is_chosen_by_its_name(tmp_path, name):
    path = several(tmp_path / name)
    for key in ("t1", "deep/er/t2", "/t1", "/deep/er/t2/"):
        want = ARRAYS[key.strip("/")]
        np.testing.assert_array_equal(read(path, key=key).array, want)
        np.testing.assert_array_equal(read(f"{path}::{key}").array, want)


@pytest.mark.parametrize("name", SEVERAL)
def test_several_arrays_and_none_chosen(tmp_path, name):
    path = several(tmp_path / name)
    refused(path, "it holds 2 arrays that could be the scan .*: choose with --key NAME")
    with pytest.raises(VolumeError) as caught:
        read(path)
    for listed in ("t1 (7 x 11 x 13)", "deep/er/t2 (7 x 11 x 13)", "table (11 x 13)"):
        assert listed in str(caught.value)


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("key", ["t2", "deep", "deep/er", "..", "T1", "t1/x"])
def test_an_array_that_is_not_there(tmp_path, name, key):
    path = several(tmp_path / name)
    refused(path, re.escape(f"no array '{key}' in it; it holds ") + r".*t1 \(7 x 11 x 13\)", key=key)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_only_scan_needs_no_name(tmp_path, name):
    path = several(tmp_path / name)
    if name.endswith("h5"):
        with h5py.File(path, "a") as file:
            del file["deep"]
    elif name.endswith("npz"):
        np.savez(path, t1=ARRAYS["t1"], table=ARRAYS["table"])
    else:
        del zarr.open_group(path)["deep"]
    np.testing.assert_array_equal(read(path).array, ARRAYS["t1"])


@pytest.mark.parametrize("name", SEVERAL)
def test_an_image_asked_for_by_name_is_still_no_volume(tmp_path, name):
    refused(several(tmp_path / name), r"a single image \(11 x 13\)", key="table")


@pytest.mark.parametrize("name", ["a.nii", "raw.nrrd", "c.npy", "raw.tif"])
def test_a_name_for_a_file_with_one_array(tmp_path, name):
    refused(
        save(tmp_path / name, noise()),
        rf"asked for its array 'x', but a {Path(name).suffix} file holds only one",
        key="x",
    )
    refused(save(tmp_path / "2.zarr", noise()), "no array 'x' in it: it is an array itself", key="x")


def test_arrays_among_the_inputs(tmp_path):
    for name in SEVERAL:
        several(tmp_path / name)
    save(tmp_path / "raw.nrrd", noise())
    one = find_scans([f"{tmp_path / 'several.h5'}::deep/er/t2"]).scans
    assert [(scan.id, scan.name) for scan in one] == [("several__deep__er__t2", "several.h5")]
    np.testing.assert_array_equal(read_scan(one[0]).array, ARRAYS["deep/er/t2"])
    both = find_scans([f"{tmp_path / 'several.h5'}::{key}" for key in ("t1", "deep/er/t2")]).scans
    assert [scan.id for scan in both] == ["several__deep__er__t2", "several__t1"]
    for name in ("several.h5", "several.zarr", "several.npz"):  # files of one name and another suffix are one id
        found = find_scans([tmp_path], Selection(key="deep/er/t2", glob=[name, "*.nrrd"])).scans
        assert [scan.id for scan in found] == ["raw", "several"]
        np.testing.assert_array_equal(read_scan(found[0]).array, noise())
        np.testing.assert_array_equal(read_scan(found[1]).array, ARRAYS["deep/er/t2"])


def test_an_array_of_a_folder(tmp_path):
    save(tmp_path / "1.nii", noise())
    with pytest.raises(InputError, match=r"::t1: .* is a folder, not a file of arrays: give --key for those in it"):
        find_scans([f"{tmp_path}::t1"])


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


def test_no_pickle_is_ever_loaded(tmp_path):
    trace = tmp_path / "trace"
    evil = pickle.dumps(Evil(trace))
    objects = np.full((5, 6, 7), Evil(trace), object)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "objects.npz", objects=objects)
    np.savez(tmp_path / "both.npz", objects=objects, scan=noise())
    (tmp_path / "bare.npy").write_bytes(evil)
    (tmp_path / "bare.npz").write_bytes(evil)
    refused(tmp_path / "objects.npy", "its values are not numbers but Python objects")
    refused(tmp_path / "objects.npz", "its values are not numbers but Python objects")
    refused(tmp_path / "both.npz", "2 arrays that could be the scan")
    refused(tmp_path / "both.npz", "its values are not numbers but Python objects", key="objects")
    refused(tmp_path / "bare.npy", "not a NumPy array")
    refused(tmp_path / "bare.npz", "not a readable .npz")
    np.testing.assert_array_equal(read(tmp_path / "both.npz", key="scan").array, noise())
    save(tmp_path / "2.zarr", noise())
    metadata = json.loads((tmp_path / "2.zarr/.zarray").read_text())
    for chunk in (path for path in (tmp_path / "2.zarr").iterdir() if path.name != ".zarray"):
        chunk.write_bytes(evil)
    codec = {"id": "pickle", "protocol": 5}
    for change in (
        {"compressor": codec},
        {"filters": [codec], "compressor": None},
        {"dtype": "|O", "filters": [codec], "compressor": None, "fill_value": None},
        {"dtype": "|O", "filters": [{"id": "vlen-bytes"}, codec], "compressor": None, "fill_value": None},
    ):
        (tmp_path / "2.zarr/.zarray").write_text(json.dumps(metadata | change))
        refused(tmp_path / "2.zarr", "damaged Zarr header")
    assert not trace.exists()
    pickle.loads(evil)
    assert trace.exists()  # it would have been seen


TYPES = {
    "complex": (np.zeros((5, 6, 7), "c8"), "complex voxels: give magnitude or phase"),
    "compound": (np.zeros((5, 6, 7), [("a", "i4"), ("b", "f4")]), r"colour voxels \(a/b\)"),
    "bytes": (np.full((5, 6, 7), b"ab"), "its values are not numbers but"),
    "empty": (np.zeros((0, 6, 7)), r"an axis without voxels \(0 x 6 x 7\)"),
    "empty last": (np.zeros((6, 7, 0)), r"an axis without voxels \(6 x 7 x 0\)"),
    "vector": (np.zeros(300), "no array of three axes"),
    "scalar": (np.array(3.0), "no array of three axes"),
    "slice": (np.zeros((1, 6, 7)), r"a single image \(1 x 6 x 7\)"),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".zarr"])
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_what_is_no_volume_of_numbers(tmp_path, kind, suffix):
    array, trouble = TYPES[kind]
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez(path, scan=array)
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["scan"] = array
    else:
        zarr.create_array(path, data=array, chunks=tuple(max(1, n) for n in array.shape))
    if suffix in (".npy", ".zarr") and kind in ("vector", "scalar"):
        trouble = "a single image"
    refused(path, trouble)


@pytest.mark.parametrize("colours", [3, 4])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_colours_are_no_slices(tmp_path, colours, suffix):
    for shape in [(20, 30, colours), (5, 20, 30, colours)]:
        array, path = np.zeros(shape, "uint8"), tmp_path / f"a{suffix}"
        if suffix == ".npy":
            np.save(path, array)
        elif suffix == ".npz":
            np.savez(path, scan=array)
        else:
            with h5py.File(path, "w") as file:
                file["scan"] = array
        refused(path, "looks like colours or channels: put channels first, as frames")


@pytest.mark.parametrize(
    "dtype",
    [h5py.string_dtype(), h5py.vlen_dtype("i4"), h5py.ref_dtype, h5py.opaque_dtype("M8[s]"), np.dtype("S4")],
    ids=str,
)
def test_types_that_only_hdf5_has(tmp_path, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("scan", shape=(5, 6, 7), dtype=dtype)
    refused(tmp_path / "a.h5", "its values are not numbers but")


def test_hdf5_reads_no_other_file(tmp_path):
    """Whoever wrote the file could name any file of this machine."""
    save(tmp_path / "raw.h5", noise())
    (tmp_path / "voxels.raw").write_bytes(noise().tobytes())
    layout = h5py.VirtualLayout(noise().shape, "i2")
    layout[:] = h5py.VirtualSource(str(tmp_path / "raw.h5"), "scan", noise().shape)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset(
            "external", noise().shape, "i2", external=[(str(tmp_path / "voxels.raw"), 0, noise().nbytes)]
        )
        file["link"] = h5py.ExternalLink("raw.h5", "scan")
        file["soft"] = h5py.SoftLink("/nowhere")
    for key in ("virtual", "external"):
        refused(tmp_path / "links.h5", f"the voxels of {key} are in other files: copy them into this one", key=key)
    for key in ("link", "soft", "nowhere"):
        refused(tmp_path / "links.h5", f"no array '{key}' in it", key=key)


def test_hdf5_with_a_compression_that_is_not_here(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        chunked = file.create_dataset(
            "scan", shape=(4, 5, 6), chunks=(4, 5, 6), dtype="i2", compression=32001, allow_unknown_filter=True
        )
        chunked.id.write_direct_chunk((0, 0, 0), bytes(240))
    refused(tmp_path / "a.h5", "compressed with .*, unknown here: save it with gzip")


@pytest.mark.parametrize("shape", [(10**4,) * 3, (2, 10**4, 10**4, 10**4), (10**5,) * 3], ids=str)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".zarr"])
def test_terabytes_that_only_a_header_declares(tmp_path, shape, suffix):
    path = tmp_path / f"a{suffix}"
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    if suffix == ".npy":
        start = io.BytesIO()
        np.lib.format.write_array_header_1_0(start, header)
        path.write_bytes(start.getvalue())
    elif suffix == ".npz":
        assert write_npz(path, "scan", header, method=zipfile.ZIP_DEFLATED).stat().st_size < 240
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("scan", shape, "f8", chunks=(1,) * (len(shape) - 2) + (100, 100))
    else:
        zarr.create_array(path, shape=shape, dtype="f8", chunks=(100,) * len(shape))
    tracemalloc.start()
    try:
        refused(path, "more than the 2,097,152,000 allowed|truncated", frame=0)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(500, 500, 500), (10, 10, 10)], ids=str)
def test_an_npz_takes_memory_for_what_is_there_and_for_what_is_declared(tmp_path, shape):
    """Of an honest gigabyte with a few bytes behind, and of a small array with a hundred megabytes behind."""
    content = bytes(100 << 20) if shape[0] == 10 else bytes(99)
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    path = write_npz(tmp_path / "a.npz", "scan", header, content, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        refused(path, "damaged: scan does not hold the .* bytes that its header promises")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_packed_as_numpy_never_does(tmp_path, method):
    """zipfile inflates these without a bound, a thousand times as much as deflate."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (5, 10, 10)}
    path = write_npz(tmp_path / "a.npz", "scan", header, bytes(4000), method)
    refused(path, "compressed as NumPy never does: save it again with numpy.savez_compressed")


@pytest.mark.parametrize(
    ("header", "trouble"),
    [
        ({"shape": (-5, 6, 7)}, "an axis without voxels"),
        ({"shape": (5.0, 6, 7)}, "damaged NumPy header"),
        ({"shape": 5}, "damaged NumPy header"),
        ({"descr": "<f9"}, "damaged NumPy header"),
        ({"descr": "O"}, "Python objects"),
        ({"descr": "V0"}, "not numbers"),
        ({"fortran_order": 3}, "damaged NumPy header"),
        ({"more": 3}, "damaged NumPy header"),
    ],
    ids=str,
)
def test_a_numpy_header_that_makes_no_sense(tmp_path, header, trouble):
    text = repr({"descr": "<i2", "fortran_order": False, "shape": (5, 6, 7)} | header).encode().ljust(117) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(500)
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path / "a.npy", trouble)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("scan.npy", content)
    refused(tmp_path / "a.npz", trouble)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_npy(tmp_path, version):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, noise(), version=version)
    np.testing.assert_array_equal(read(tmp_path / "a.npy").array, noise())


def test_a_npz_with_other_things_in_it(tmp_path):
    save(tmp_path / "zipped.npz", noise())
    with zipfile.ZipFile(tmp_path / "zipped.npz", "a") as archive:
        archive.writestr("readme.txt", "an .npz is a .zip")
    np.testing.assert_array_equal(read(tmp_path / "zipped.npz").array, noise())
    np.savez(tmp_path / "b.npz")
    refused(tmp_path / "b.npz", r"no array of three axes \(nothing\)")


def test_an_encrypted_npz(tmp_path):
    content = bytearray(save(tmp_path / "stored.npz", noise()).read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + at] |= 1
    (tmp_path / "stored.npz").write_bytes(content)
    refused(tmp_path / "stored.npz", "not a readable .npz .*encrypted")


@pytest.mark.parametrize(
    "content", [b"", b"not HDF5\n" * 99, b"\x89HDF\r\n\x1a\n" + bytes(500)], ids=["empty", "text", "start"]
)
@pytest.mark.parametrize("name", ["a.h5", "a.npy", "a.npz"])
def test_no_array_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "not a readable HDF5 file|not a NumPy array|not a readable .npz")


@pytest.mark.parametrize("metadata", ["", "{", "[]", '{"zarr_format": 3, "node_type": "array"}', '{"zarr_format": 9}'])
def test_zarr_metadata_that_makes_no_sense(tmp_path, metadata):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/zarr.json").write_text(metadata)
    refused(tmp_path / "a.zarr", "damaged Zarr header")


def test_no_zarr_at_all(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("no folder")
    for name in ("empty.zarr", "file.zarr"):
        refused(tmp_path / name, "no Zarr array or group: no zarr.json, .zarray or .zgroup in it")
    with pytest.raises(InputError, match=r"none\.zarr: no such file"):
        read(tmp_path / "none.zarr")


@pytest.mark.parametrize("name", ["2.zarr", "3.zarr"])
def test_a_damaged_chunk(tmp_path, name):
    path = save(tmp_path / name, noise())
    chunk = next(file for file in sorted(path.rglob("*")) if file.is_file() and "z" not in file.name)
    chunk.write_bytes(chunk.read_bytes()[:-5])
    refused(path, "damaged Zarr chunk .*: copy it again")


def test_the_source_of_a_zarr_is_all_its_files_each_in_its_place(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=noise((8, 6, 5)), chunks=(4, 6, 5), compressors=None)
    before = read(path).source
    first, second = path / "c/0/0/0", path / "c/1/0/0"
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    after = read(path).source
    assert after["bytes"] == before["bytes"]
    assert after["sha256"] != before["sha256"]


def test_one_error_family(tmp_path):
    for name, cause in (("a.h5", FeatliftError), ("a.npy", ValueError)):
        (tmp_path / name).write_bytes(b"?")
        with pytest.raises(cause):
            read(tmp_path / name)

"""Names in headers: whoever wrote the file may not choose another one of this machine, in any format."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr

from featlift.errors import VolumeError
from featlift.volumes import read
from tests.support.files import noise, save

SECRET = noise() + 100  # what stands in files that are not to be read


def mhd(path: Path, name: str) -> None:
    header = save(path / "raw.mhd", noise())
    text = header.read_text().replace("ElementDataFile = raw.raw", f"ElementDataFile = {name}")
    header.write_text(text)


def nhdr(path: Path, name: str) -> None:
    header = save(path / "raw.nhdr", noise())
    header.write_text(re.sub("data file: .*", lambda _: f"data file: {name}", header.read_text()))


def ome_tiff(path: Path, name: str, root: bool = True) -> None:
    """Every plane is in the file `name`."""
    write_tiff(path / "a.ome.tif", noise())
    planes = "".join(
        f'<TiffData IFD="{z}" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:1</UUID></TiffData>'
        for z in range(len(noise()))
    )
    text = re.sub("<TiffData [^>]*/>", lambda _: planes, tifffile.tiffcomment(path / "a.ome.tif"))
    text = text if root else re.sub(' UUID="[^"]*"', "", text)
    tifffile.tiffcomment(path / "a.ome.tif", text.encode())


def ome_tiff_without_uuid(path: Path, name: str) -> None:
    ome_tiff(path, name, root=False)


def write_tiff(path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(
        path, array, metadata={"axes": "ZYX"}, photometric="minisblack", compression="zlib", rowsperstrip=3
    )


def external_link(path: Path, name: str) -> None:
    with h5py.File(path / "a.h5", "w") as file:
        file["a"] = h5py.ExternalLink(name, "a")


def external_storage(path: Path, name: str) -> None:
    with h5py.File(path / "a.h5", "w") as file:
        file.create_dataset("a", noise().shape, "int16", external=[(name, 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(path: Path, name: str) -> None:
    layout = h5py.VirtualLayout(noise().shape, "int16")
    layout[:] = h5py.VirtualSource(name, "a", noise().shape)
    with h5py.File(path / "a.h5", "w") as file:
        file.create_virtual_dataset("a", layout)


def ome_zarr(path: Path, name: str) -> None:
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [1, 1, 1]}]
    datasets = [{"path": name, "coordinateTransformations": scale}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = zarr.create_group(path / "a.zarr", attributes={"ome": ome})
    group.create_array("0", data=noise())


FORMATS: list[Callable[[Path, str], None]] = [
    *(mhd, nhdr, ome_tiff, ome_tiff_without_uuid, external_link, external_storage, virtual_dataset, ome_zarr),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder beside which, and in which, files of every format hold what is not to be read."""
    (tmp_path / "in").mkdir()
    for place in (tmp_path, tmp_path / "in"):
        SECRET.tofile(place / "secret.raw")
        write_tiff(place / "secret.ome.tif", SECRET)
        with h5py.File(place / "secret.h5", "w") as file:
            file["a"] = SECRET
        zarr.create_group(place / "secret.zarr").create_array("0", data=SECRET)
    return tmp_path / "in"


def target_of(write: Callable[[Path, str], None]) -> str:
    """A file that would do for this format."""
    if write in (external_link, virtual_dataset):
        return "secret.h5"
    if write in (ome_tiff, ome_tiff_without_uuid):
        return "secret.ome.tif"
    return "secret.zarr/0" if write is ome_zarr else "secret.raw"


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
@pytest.mark.parametrize(
    "place", ["../{}", "below/../../{}", "{folder}/{}", "file://{folder}/{}", "http://127.0.0.1/{}"]
)
def test_no_header_names_a_file_elsewhere(folder, monkeypatch, write, place):
    monkeypatch.chdir(folder)  # where some libraries would look
    write(folder, place.format(target_of(write), folder=folder.parent))
    path = next(path for path in folder.iterdir() if path.name in ("raw.mhd", "raw.nhdr") or path.name.startswith("a."))
    with pytest.raises((VolumeError, FileNotFoundError)) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path.name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [ome_tiff, ome_tiff_without_uuid], ids=lambda write: write.__name__)
def test_slices_in_other_files_beside(folder, write):
    write(folder, "secret.ome.tif")
    with pytest.raises(VolumeError, match=r"^a\.ome\.tif: its slices are in other files, or in several: save them as"):
        read(folder / "a.ome.tif")


def test_an_ome_tiff_that_names_itself(folder):
    """By its name, or, once renamed, by its identifier."""
    ome_tiff(folder, "a.ome.tif")
    text = tifffile.tiffcomment(folder / "a.ome.tif")
    own = re.search('UUID="([^"]*)"', text)[1]
    tifffile.tiffcomment(folder / "a.ome.tif", text.replace("urn:uuid:1<", f"{own}<").encode())
    np.testing.assert_array_equal(read(folder / "a.ome.tif").array, noise())
    (folder / "a.ome.tif").rename(folder / "renamed.ome.tif")
    np.testing.assert_array_equal(read(folder / "renamed.ome.tif").array, noise())
    ome_tiff_without_uuid(folder, "a.ome.tif")
    np.testing.assert_array_equal(read(folder / "a.ome.tif").array, noise())


def test_links_that_a_user_placed_are_followed(folder):
    """As DataLad and farms of links place them: files, voxels beside a header, chunks, folders."""
    far = folder.parent / "annex"
    far.mkdir()
    for name in ("raw.mhd", "raw.nhdr", "1.hdr", "1.nii.gz", "raw.h5", "zlib.tiff", "c.npy"):
        save(far / name, noise())
    save(far / "3.zarr", noise())
    for number, file in enumerate([path for path in far.rglob("*") if path.is_file()]):
        store = folder.parent / f"objects{number}"  # each elsewhere, under another name
        file.rename(store)
        here = folder / file.relative_to(far)
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(os.path.relpath(store, here.parent))
    for name in ("raw.mhd", "raw.nhdr", "1.hdr", "1.nii.gz", "raw.h5", "zlib.tiff", "c.npy", "3.zarr"):
        np.testing.assert_array_equal(read(folder / name).array, noise())


def test_an_image_is_that_of_its_own_header(folder):
    """The pair has no name in it: what stands in the header's texts is nobody's file."""
    image = nib.Nifti1Pair(noise().T, np.eye(4))
    image.header["db_name"] = b"../secret.raw"
    image.header["aux_file"] = b"../secret.raw"
    nib.save(image, folder / "1.hdr")
    np.testing.assert_array_equal(read(folder / "1.hdr").array, noise())


def test_the_index_of_a_dicom_medium_names_no_file(folder):
    from pydicom.fileset import FileSet

    from tests.support.series import save as save_series
    from tests.support.series import slices

    save_series(folder / "below", slices(3))
    medium = FileSet()
    for file in (folder / "below").iterdir():
        medium.add(file)
    medium.write(folder / "medium")
    (folder / "medium" / "DICOMDIR").rename(folder / "medium" / "DICOMDIR.dcm")
    with pytest.raises(FileNotFoundError, match=r"^DICOMDIR\.dcm: no DICOM series that is a volume \(.*: DICOMDIR\)$"):
        read(folder / "medium" / "DICOMDIR.dcm")


def test_metadata_of_zarr_name_no_file(folder):
    zarr.create_array(folder / "a.zarr", data=noise(), zarr_format=2, chunks=noise().shape, compressors=None)
    about = json.loads((folder / "a.zarr" / ".zarray").read_text())
    (folder / "a.zarr" / ".zarray").write_text(json.dumps({**about, "dimension_separator": "/../../secret.raw/"}))
    with pytest.raises(VolumeError):
        read(folder / "a.zarr")

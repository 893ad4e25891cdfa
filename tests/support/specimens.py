"""A real scan, written small in every way that is read: what mutations start from."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk
import tifffile
import zarr
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from featlift.demo import copy_brain
from tests.support.codestreams import compress
from tests.support.files import OBLIQUE, RAS_TO_LPS, REVERSED
from tests.support.files import save as save_image
from tests.support.series import enhanced, save, set_pixels, slices

_PIXEL_DATA = b"\xe0\x7f\x10\x00"  # its tag
_CODESTREAM_HEADER = 300  # bytes, and the items before it


@dataclass(frozen=True)
class Part:
    """What is mutated of a specimen: one of its files, or what that file stands for once unpacked.

    Attributes:
        file: its path below the folder of the specimen.
        content: of the file, or what it unpacks to.
        header: where in it the header is.
        pack: makes the file of it.
    """

    file: str
    content: bytes
    header: Sequence[int]
    pack: Callable[[bytes], bytes] = bytes


@dataclass(frozen=True)
class Specimen:
    """One scan on disk.

    Attributes:
        name: of the format.
        reader: what reads it besides featlift, a function of `second_readers`.
        target: what is read, below the folder of the specimen; "" for the folder itself.
        files: all of them.
        parts: what of them is mutated.
    """

    name: str
    reader: str
    target: str
    files: dict[str, bytes]
    parts: tuple[Part, ...]


def specimens(folder: Path) -> list[Specimen]:
    """Every format, written below an empty folder; the same bytes each time."""
    copy_brain(folder / "mni")
    brain = nib.load(folder / "mni" / "scans" / "brain.nii.gz").slicer[80:108, 100:124, 70:82]
    voxels = 13 * np.asanyarray(brain.dataobj).T.astype(np.int16)  # 12 bits, as of a scanner
    return [
        *_nifti(folder / "nifti", voxels),
        *_itk(folder / "itk", voxels),
        *_arrays(folder / "arrays", voxels),
        *_zarr(folder / "zarr", voxels),
        *_tiff(folder / "tiff", voxels),
        *_dicom(folder / "dicom", voxels.astype(np.uint16)),
    ]


def _specimen(name: str, reader: str, path: Path, parts: Callable[[str, bytes], Iterable[Part]]) -> Specimen:
    """From files on disk: `path` is the file to read, or the folder that is one scan."""
    is_folder = path.is_dir()
    root = path if is_folder and not path.suffix else path.parent
    written = sorted(file for file in path.rglob("*") if file.is_file()) if is_folder else _with_the_same_stem(path)
    files = {file.relative_to(root).as_posix(): file.read_bytes() for file in written}
    target = path.relative_to(root).as_posix()
    all_parts = tuple(part for file, content in files.items() for part in parts(file, content))
    return Specimen(name, reader, "" if target == "." else target, files, all_parts)


def _with_the_same_stem(path: Path) -> list[Path]:
    return sorted(file for file in path.parent.iterdir() if file.stem == path.stem)


def _binary(size: int, file: str, content: bytes) -> Iterable[Part]:
    yield Part(file, content, range(min(size, len(content))))


def _up_to(mark: bytes, file: str, content: bytes) -> Iterable[Part]:
    """A text header, up to and with a mark; of a file without one, its start."""
    end = content.find(mark)
    yield Part(file, content, range(end + len(mark) if end >= 0 else min(64, len(content))))


def _gzipped(size: int, file: str, content: bytes) -> Iterable[Part]:
    yield Part(file, content, range(20))
    yield Part(file, gzip.decompress(content), range(size), partial(gzip.compress, mtime=0))


def _nifti(folder: Path, voxels: np.ndarray) -> Iterable[Specimen]:
    folder.mkdir()
    for name, kind, file, size in (
        ("nii", nib.Nifti1Image, "one.nii", 352),
        ("nii 2", nib.Nifti2Image, "two.nii", 544),
        ("nii pair", nib.Nifti1Pair, "pair.hdr", 352),
        ("analyze", nib.AnalyzeImage, "analyze.hdr", 348),
    ):
        image = kind(voxels.T, RAS_TO_LPS @ OBLIQUE @ REVERSED)
        if name != "analyze":
            image.header.set_slope_inter(0.5, -10)
        nib.save(image, folder / file)
        yield _specimen(name, "nibabel", folder / file, partial(_binary, size))
    (folder / "zipped.nii.gz").write_bytes(gzip.compress((folder / "one.nii").read_bytes(), mtime=0))
    yield _specimen("nii.gz", "nibabel", folder / "zipped.nii.gz", partial(_gzipped, 352))


def _itk(folder: Path, voxels: np.ndarray) -> Iterable[Specimen]:
    folder.mkdir()
    for name, file in (
        ("nrrd", "whole.nrrd"),
        ("nrrd gzip", "gzip.nrrd"),
        ("nhdr", "pair.nhdr"),
        ("mha", "whole.mha"),
        ("mha zlib", "zlib.mha"),
        ("mhd", "split.mhd"),
    ):
        yield _specimen(name, "itk", save_image(folder / file, voxels), partial(_itk_parts, name))


def _itk_parts(name: str, file: str, content: bytes) -> Iterable[Part]:
    (whole,) = _up_to(b"\n\n" if "n" in name else b"LOCAL\n", file, content)
    if file.endswith(("hdr", "mhd")):
        whole = Part(file, content, range(len(content)))
    yield whole
    header, packed = content[: len(whole.header)], content[len(whole.header) :]
    if "gzip" in name:
        yield Part(file, gzip.decompress(packed), range(64), lambda voxels: header + gzip.compress(voxels, mtime=0))
    elif "zlib" in name:
        yield Part(file, zlib.decompress(packed), range(64), partial(_packed_by_itk, header))


def _packed_by_itk(header: bytes, voxels: bytes) -> bytes:
    packed = zlib.compress(voxels)
    return re.sub(rb"(?<=CompressedDataSize = )\d+", b"%d" % len(packed), header) + packed


def _arrays(folder: Path, voxels: np.ndarray) -> Iterable[Specimen]:
    folder.mkdir()
    np.save(folder / "array.npy", voxels)
    yield _specimen("npy", "numpy", folder / "array.npy", partial(_binary, 128))
    np.savez(folder / "stored.npz", scan=voxels)
    yield _specimen("npz stored", "numpy", folder / "stored.npz", _zip_parts)
    np.savez_compressed(folder / "deflated.npz", scan=voxels)
    yield _specimen("npz deflated", "numpy", folder / "deflated.npz", _zip_parts)
    splits = {"train": voxels[None, :, :12, :12], "val": voxels[None, :, 8:20, :12], "test": voxels[None, :, 12:, :12]}
    images = {f"{split}_images": images for split, images in splits.items()}
    labels = {f"{split}_labels": np.array([[number]], np.uint8) for number, split in enumerate(splits)}
    np.savez(folder / "medmnist.npz", **images, **labels)
    yield _specimen("medmnist", "numpy", folder / "medmnist.npz", _zip_parts)
    for name, options in (
        ("h5", {}),
        ("h5 gzip", {"chunks": (4, 12, 14), "compression": "gzip", "shuffle": True, "fletcher32": True}),
        ("h5 latest", {"chunks": (4, 12, 14), "compression": "gzip"}),
    ):
        path = folder / f"{name.replace(' ', '_')}.h5"
        with h5py.File(path, "w", libver="latest" if "latest" in name else "earliest") as file:
            file.create_dataset("images/scan", data=voxels, **options).attrs["unit"] = "arbitrary"
        yield _specimen(name, "hdf5", path, partial(_binary, 4096))


def _zip_parts(file: str, content: bytes) -> Iterable[Part]:
    """The .zip with its directory, and one by one the arrays in it."""
    directory = content.rindex(b"PK\x01\x02")
    yield Part(file, content, [*range(64), *range(directory, len(content))])
    with ZipFile(BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        method = archive.infolist()[0].compress_type
    for name, member in members.items():
        yield Part(file, member, range(min(len(member), 400)), partial(_repacked, members, name, method))


def _repacked(members: dict[str, bytes], name: str, method: int, changed: bytes) -> bytes:
    return _packed({**members, name: changed}, method)


def _packed(members: dict[str, bytes], method: int) -> bytes:
    """As a .zip, without the time at which it is made."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(ZipInfo(name), content, method)
    return file.getvalue()


def _zarr(folder: Path, voxels: np.ndarray) -> Iterable[Specimen]:
    folder.mkdir()
    chunks = (4, 12, 14)
    for name, file, options in (
        ("zarr 3", "three.zarr", {"zarr_format": 3, "chunks": chunks}),
        ("zarr 3 shards", "shards.zarr", {"zarr_format": 3, "chunks": chunks, "shards": (8, 24, 28)}),
        ("zarr 2", "two.zarr", {"zarr_format": 2, "chunks": chunks}),
    ):
        zarr.create_array(folder / file, data=voxels, **options)
        yield _specimen(name, "zarr_array", folder / file, _zarr_parts)
    group = zarr.open_group(folder / "ome.zarr", mode="w", zarr_format=3)
    for level in range(2):
        part = voxels[:: 2**level, :: 2**level, :: 2**level]
        group.create_array(f"{level}", data=part, chunks=chunks, compressors=zarr.codecs.GzipCodec())
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"],
                "datasets": [
                    {
                        "path": f"{level}",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [2.0**level * step for step in (2.5, 1.5, 1)]},
                            {"type": "translation", "translation": [-72, 10.5, 20]},
                        ],
                    }
                    for level in range(2)
                ],
            }
        ],
    }
    for chunk in (folder / "ome.zarr").glob("*/c/*/*/*"):
        content = chunk.read_bytes()
        chunk.write_bytes(content[:4] + bytes(4) + content[8:])  # not the time at which it was written
    yield _specimen("ome-zarr", "ome_zarr", folder / "ome.zarr", _zarr_parts)
    group = zarr.open_group(folder / "blosc.zarr", mode="w", zarr_format=2)
    group.create_array("scan", data=voxels, chunks=chunks, compressors=_blosc())
    yield _specimen("zarr 2 blosc", "zarr_array", folder / "blosc.zarr", _zarr_parts)


def _blosc() -> object:
    from numcodecs import Blosc

    return Blosc("lz4", shuffle=Blosc.BITSHUFFLE)


def _zarr_parts(file: str, content: bytes) -> Iterable[Part]:
    """The metadata, and of the many chunks the first."""
    if file.endswith(("zarr.json", ".zarray", ".zgroup", ".zattrs")):
        yield Part(file, content, range(len(content)))
    elif file.endswith(("0/0/0", "0.0.0")):
        yield Part(file, content, range(min(32, len(content))))


def _tiff(folder: Path, voxels: np.ndarray) -> Iterable[Specimen]:
    folder.mkdir()
    for name, options in (
        ("tif", {}),
        ("tif zlib", {"compression": "zlib", "predictor": True}),
        ("tif imagej", {"imagej": True}),
        ("tif tiles", {"tile": (16, 16), "compression": "zlib", "bigtiff": True}),
    ):
        path = folder / f"{name.replace(' ', '_')}.tif"
        tifffile.imwrite(path, voxels, **({"metadata": {"axes": "ZYX"}} | options))
        yield _specimen(name, "tiff", path, partial(_tiff_parts, voxels))
    path = folder / "tif_lzw.tif"  # not of tifffile, which packs so only with imagecodecs
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=True, compressor="LZW")
    yield _specimen("tif lzw", "tiff", path, partial(_tiff_parts, voxels))


def _tiff_parts(voxels: np.ndarray, file: str, content: bytes) -> Iterable[Part]:
    with tifffile.TiffFile(BytesIO(content)) as tiff:
        packed = {
            place
            for page in tiff.pages
            for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)
            for place in range(start, start + size)
        }
    yield Part(file, content, [place for place in range(len(content)) if place not in packed])


def _dicom(folder: Path, voxels: np.ndarray) -> Iterable[Specimen]:
    folder.mkdir()
    for name, syntax in (
        ("dicom", ExplicitVRLittleEndian),
        ("dicom deflated", DeflatedExplicitVRLittleEndian),
        ("dicom rle", RLELossless),
        ("dicom jpeg lossless", JPEGLosslessSV1),
        ("dicom jpeg-ls", JPEGLSLossless),
        ("dicom jpeg 2000", JPEG2000Lossless),
    ):
        series = folder / name.replace(" ", "_")
        save(series, [compress(one, syntax) for one in _slices(voxels)], "IM{:03}.dcm")
        yield _specimen(name, "dicom", series, partial(_dicom_parts, syntax))
    for name, syntax in (("dicom enhanced", ExplicitVRLittleEndian), ("dicom enhanced j2k", JPEG2000Lossless)):
        series = folder / name.replace(" ", "_")
        whole = enhanced(_slices(voxels))
        whole.SOPInstanceUID = "1.2.3.4.5"
        whole.DimensionOrganizationSequence[0].DimensionOrganizationUID = "1.2.3.4.6"
        whole.DimensionIndexSequence[0].DimensionOrganizationUID = "1.2.3.4.6"
        save(series, [compress(whole, syntax)], "IM{:03}.dcm")
        yield _specimen(name, "dicom", series, partial(_dicom_parts, syntax))
    written = {file.name: file.read_bytes() for file in sorted((folder / "dicom").iterdir())}
    (folder / "zipped.zip").write_bytes(_packed(written, ZIP_DEFLATED))
    yield _specimen("dicom zip", "dicom", folder / "zipped.zip", _zip_parts)


def _slices(voxels: np.ndarray) -> list[Dataset]:
    written = slices(len(voxels), series_uid="1.2.3.4")
    for number, (one, pixels) in enumerate(zip(written, voxels, strict=True)):
        one.SOPInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID = f"1.2.3.4.{number}", "1.2.3", "1.2.5"
        set_pixels(one, pixels)
    return written


def _dicom_parts(syntax: UID, file: str, content: bytes) -> Iterable[Part]:
    pixels = content.rfind(_PIXEL_DATA)
    end = pixels + (_CODESTREAM_HEADER if syntax.is_encapsulated else 12) if pixels > 0 else 400
    yield Part(file, content, range(128, min(end, len(content))))
    if syntax == DeflatedExplicitVRLittleEndian:
        start = 144 + int.from_bytes(content[140:144], "little")
        inflated = zlib.decompress(content[start:], -zlib.MAX_WBITS)
        yield Part(file, inflated, range(inflated.rfind(_PIXEL_DATA) + 12), partial(_deflated, content[:start]))


def _deflated(start: bytes, dataset: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return start + packer.compress(dataset) + packer.flush()

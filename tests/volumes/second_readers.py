"""What others make of a file: the same array and affine as a `Volume` of featlift has, or an error of theirs."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import h5py
import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
import tifffile
import zarr
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from featlift.volumes import Source
from tests.support.files import RAS_TO_LPS, REVERSED

Seen = tuple[np.ndarray, np.ndarray | None]


def _one_frame(array: np.ndarray, source: Source) -> np.ndarray:
    frames = np.asarray(array).reshape(-1, *array.shape[-3:])
    with np.errstate(all="ignore"):
        return frames[source.frame or 0].astype(np.float32)


def nibabel(source: Source) -> Seen:
    image = nib.load(source.path)
    if not isinstance(image.header, nib.Nifti1Header):  # nor SPM's, which finds a slope in an unused field
        return _one_frame(np.asanyarray(nib.AnalyzeImage.from_filename(source.path).dataobj).T, source), None
    if isinstance(image, nib.Nifti1Image) and image.dataobj.offset == 0:
        raise ValueError("nibabel takes the header for voxels")
    unit = {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) & 7, 1.0)
    has_place = bool(image.header["sform_code"] or image.header["qform_code"])
    affine = RAS_TO_LPS @ np.diag([unit, unit, unit, 1.0]) @ image.affine @ REVERSED if has_place else None
    return _one_frame(np.asanyarray(image.dataobj).T, source), affine


def itk(source: Source) -> Seen:
    image = sitk.ReadImage(str(source.path))
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError("several values a voxel")
    axes = image.GetDimension()
    scaled = np.reshape(image.GetDirection(), (axes, axes)) * image.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = scaled[:3, :3], image.GetOrigin()[:3]
    return _one_frame(sitk.GetArrayFromImage(image), source), affine @ REVERSED


def numpy(source: Source) -> Seen:
    loaded = np.load(source.path)
    if isinstance(loaded, np.ndarray):
        return _one_frame(loaded, source), None
    with loaded as archive:
        if source.key:
            return _one_frame(archive[source.key], source), None
        (array,) = (archive[name] for name in archive.files if archive[name].ndim > 2)
        return _one_frame(array, source), None


def hdf5(source: Source) -> Seen:
    with h5py.File(source.path) as file:
        names: list[str] = []
        file.visit(names.append)
        (dataset,) = (file[name] for name in names if isinstance(file[name], h5py.Dataset) and file[name].ndim > 2)
        return _one_frame(dataset[...], source), None


def zarr_array(source: Source) -> Seen:
    inside = source.path / "scan"
    return _one_frame(zarr.open_array(inside if inside.exists() else source.path, mode="r")[...], source), None


def ome_zarr(source: Source) -> Seen:
    (image,) = json.loads((source.path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"]
    level = image["datasets"][0]
    scale, translation = (np.array(each[each["type"]]) for each in level["coordinateTransformations"])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.diag(scale)[::-1], translation[::-1]
    return _one_frame(zarr.open(source.path / level["path"], mode="r")[...], source), affine


def tiff(source: Source) -> Seen:
    with tifffile.TiffFile(source.path) as file:
        array, axes = file.series[0].asarray(), file.series[0].axes
    order = sorted(range(len(axes)), key=lambda axis: "ZYX".find(axes[axis]))
    return _one_frame(array.transpose(order), source), None


def dicom(source: Source) -> Seen:
    datasets = [_dataset(source.path, member) for member in source.members]
    slices = sorted((one for dataset in datasets for one in _slices(dataset)), key=lambda one: one[0])
    _, first, orientation, (between_rows, between_columns), _ = slices[0]
    affine = np.eye(4)
    affine[:3, 0] = (slices[-1][1] - first) / (len(slices) - 1)
    affine[:3, 1], affine[:3, 2] = orientation[1] * between_rows, orientation[0] * between_columns
    affine[:3, 3] = first
    return np.stack([one[-1] for one in slices]).astype(np.float32), affine


def _dataset(root: Path, member: str) -> pydicom.Dataset:
    if root.is_dir():
        dataset = pydicom.dcmread(root / member, force=True)
    else:
        with ZipFile(root) as archive, archive.open(member) as file:
            dataset = pydicom.dcmread(file, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:  # as it was read, PS3.5 10.1
        is_implicit, _ = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    return dataset


def _slices(dataset: pydicom.Dataset) -> list[tuple[float, np.ndarray, np.ndarray, list[float], np.ndarray]]:
    """Height, position, orientation, spacing and values of each frame."""
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    slices = []
    for number, pixels in enumerate(frames):
        groups = [dataset]
        if "PerFrameFunctionalGroupsSequence" in dataset:
            own, shared = dataset.PerFrameFunctionalGroupsSequence[number], dataset.SharedFunctionalGroupsSequence[0]
            groups = [item for part in (own, shared) for sequence in part for item in sequence.value[:1]]
        position, orientation, spacing, slope, intercept = (
            next((group[keyword].value for group in groups if keyword in group), 1 if "Slope" in keyword else 0)
            for keyword in (
                "ImagePositionPatient",
                "ImageOrientationPatient",
                "PixelSpacing",
                "RescaleSlope",
                "RescaleIntercept",
            )
        )
        axes = np.reshape([float(cosine) for cosine in orientation], (2, 3))
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        place = np.array([float(x) for x in position])
        height = float(place @ np.cross(*axes))
        values = pixels * float(1 if slope is None else slope) + float(intercept or 0)
        slices.append((height, place, axes, [float(mm) for mm in spacing], values))
    return slices

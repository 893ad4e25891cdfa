"""RTSTRUCT: contours drawn on a series (PS3.3 C.8.8.6) as labels on its voxels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from featlift.errors import VolumeError
from featlift.volumes.dicom.headers import reading
from featlift.volumes.dicom.opening import open_series
from featlift.volumes.grid import Shape
from featlift.volumes.image import Image
from featlift.volumes.merging import merged
from featlift.volumes.volume import Affine

_TAGS = ("StructureSetROISequence", "ROIContourSequence")
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_IN_PLANE = 0.5  # slices that a contour may rise and fall


def open_contours(root: Path, member: str, series: Sequence[str], labels: Mapping[str, int]) -> Image:
    """Open contours as an image of labels on the voxels of the series that they were drawn on.

    A voxel belongs to a structure if an odd number of its contours in the slice go around the voxel's centre: a contour
    in another one is a hole. A contour counts for the slice nearest to it.

    Args:
        root: a folder.
        member: the file of the contours below it.
        series: the files of the series.
        labels: of structures by name; others are left out.

    Raises:
        VolumeError: a file is damaged, or a contour lies across slices.
    """
    grid = open_series(root, series)
    assert grid.affine is not None
    affine = grid.affine
    with reading("not readable as DICOM"):
        header = dcmread(root / member, force=True, specific_tags=list(_TAGS))
        names = {int(roi.ROINumber): name_of_roi(roi) for roi in header.StructureSetROISequence}
        contours = [
            (name, list(_contours(each)))
            for each in header.get("ROIContourSequence") or ()
            if (name := names.get(int(each.ReferencedROINumber), "")) in labels
        ]

    def load(frame: int) -> NDArray[Any]:
        return merged(
            grid.shape, ((labels[name], _filled(points, grid.shape, affine, name)) for name, points in contours)
        )

    return Image(grid.shape, load, affine)


def name_of_roi(roi: Dataset) -> str:
    """What a region of interest is called."""
    return str(roi.get("ROIName") or f"ROI {roi.ROINumber}")


def _contours(roi: Dataset) -> Iterator[NDArray[np.float64]]:
    """The closed contours of a structure, ``(N, 3)`` in LPS millimetres; points and open lines have no inside."""
    for contour in roi.get("ContourSequence") or ():
        if str(contour.get("ContourGeometricType")) in _CLOSED:
            yield np.array(contour.ContourData, np.float64).reshape(-1, 3)


def _filled(contours: Sequence[NDArray[np.float64]], shape: Shape, affine: Affine, name: str) -> NDArray[np.bool_]:
    from skimage.draw import polygon

    voxels = np.zeros(shape, np.bool_)
    for points in contours:
        slices, rows, columns = np.linalg.solve(affine, np.column_stack([points, np.ones(len(points))]).T)[:3]
        if np.ptp(slices) > _IN_PLANE:
            raise VolumeError(f"contours of {name} lie across the slices of their series: export them on its slices")
        number = round(float(slices.mean()))
        if 0 <= number < shape[0]:
            inside = polygon(rows, columns, shape[1:])
            voxels[number][inside] ^= True
    return voxels

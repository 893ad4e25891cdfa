"""`Slice`: one frame of one file, with all that its place, its values and its phase depend on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from featlift.counting import number_of
from featlift.errors import VolumeError
from featlift.volumes.dicom.functional_groups import frames_of
from featlift.volumes.dicom.headers import (
    ORDER_TAGS,
    VALUE_TAGS,
    Value,
    error_context,
    numbers,
    plain,
    read_header,
    reading,
)
from featlift.volumes.dicom.members import common_folder, opener
from featlift.volumes.dicom.scouting import modality_of

_LARGEST_ERROR = 0.01  # of direction cosines, which some vendors write with three decimals


@dataclass(frozen=True, eq=False)
class Slice:
    """One image of a series.

    Attributes:
        member: its file, by the path below the root.
        frame: its place in the file, counted from 0.
        name: that file for people, by its path below the folder of the series.
        label: the image for people: its InstanceNumber, else its file, and of several frames which one.
        modality: ``CT``, ``MR``, ... if the file says.
        position: (3,) centre of its first pixel in LPS mm, ImagePositionPatient (PS3.3 C.7.6.2.1.1).
        orientation: (2, 3) unit vectors along which columns and rows are counted, ImageOrientationPatient.
        spacing: mm between rows and between columns, PixelSpacing (PS3.3 10.7.1.3).
        shape: rows and columns.
        slope: of the line from stored values to values with a unit (PS3.3 C.11.1.1.2, C.7.6.16.2.9), ...
        intercept: ... and what it adds.
        is_scaled: whether the file says so; otherwise they are 1 and 0.
        phase: the `VALUE_TAGS` and `ORDER_TAGS` that it has.
    """

    member: str
    frame: int
    name: str
    label: str
    modality: str | None
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    slope: float
    intercept: float
    is_scaled: bool
    phase: dict[str, Value]


def read_slices(root: Path, members: Sequence[str]) -> list[Slice]:
    """Read the headers of a series.

    Raises:
        VolumeError: a file that is damaged, or lacks what places its image in the patient.
    """
    folder = common_folder(members)
    slices: list[Slice] = []
    with opener(root) as open_member:
        for member in members:
            name = member[len(folder) :].lstrip("/")
            with error_context(name):
                with reading("not readable as DICOM"), open_member(member) as file:
                    header = read_header(file)
                with reading("its header is not readable"):
                    slices.extend(_slices_of(header, member, name))
    return slices


def _slices_of(header: Dataset, member: str, name: str) -> Iterator[Slice]:
    frames = list(frames_of(header))
    promised = int(header.get("NumberOfFrames") or 1)
    if len(frames) != promised:
        raise VolumeError(f"describes {number_of(len(frames), 'frame')} of the {promised} it has: copy it again")
    if "MOSAIC" in (header.get("ImageType") or ()):
        raise VolumeError("a mosaic, many slices in one image: convert it to NIfTI, for instance with dcm2niix")
    number = header.get("InstanceNumber")
    shape = _shape(header)
    for index, frame in enumerate(frames):
        phase = {tag: plain(frame[tag].value) for tag in (*VALUE_TAGS, *ORDER_TAGS) if frame.get(tag) not in (None, "")}
        if len(frames) == 1:
            label = name if number is None else f"instance {number}"
        else:
            label = f"frame {index + 1} of {name}"
            phase["InstanceNumber"] = (float(number or 0), float(index))
        slope, intercept = _rescale(frame)
        yield Slice(
            member=member,
            frame=index,
            name=name,
            label=label,
            modality=modality_of(header),
            position=np.array(_needed(frame, "ImagePositionPatient", 3)),
            orientation=_orientation(frame),
            spacing=_spacing(frame),
            shape=shape,
            slope=slope,
            intercept=intercept,
            is_scaled="RescaleSlope" in frame or "RescaleIntercept" in frame,
            phase=phase,
        )


def _orientation(frame: Dataset) -> NDArray[np.float64]:
    cosines = np.array(_needed(frame, "ImageOrientationPatient", 6)).reshape(2, 3)
    if not np.allclose(cosines @ cosines.T, np.eye(2), rtol=0, atol=_LARGEST_ERROR):
        raise VolumeError("its ImageOrientationPatient is not two perpendicular unit vectors: correct the tag")
    return np.asarray(cosines / np.linalg.norm(cosines, axis=1, keepdims=True))


def _spacing(frame: Dataset) -> tuple[float, float]:
    rows, columns = _needed(frame, "PixelSpacing", 2)
    if min(rows, columns) <= 0:
        raise VolumeError(f"its PixelSpacing is {rows:g} x {columns:g} mm: correct the tag")
    return rows, columns


def _shape(header: Dataset) -> tuple[int, int]:
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if min(rows, columns) < 1:
        raise VolumeError("has no Rows or no Columns, truncated: copy it again")
    return rows, columns


def _rescale(frame: Dataset) -> tuple[float, float]:
    slope, intercept = numbers(frame, "RescaleSlope", 1), numbers(frame, "RescaleIntercept", 1)
    if slope == (0,):
        raise VolumeError("its RescaleSlope is 0, which leaves no image: correct the tag")
    return slope[0] if slope else 1.0, intercept[0] if intercept else 0.0


def _needed(frame: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    values = numbers(frame, keyword, count)
    if values is None:
        raise VolumeError(f"has no {keyword}, without which it has no place in the volume: leave it out")
    return values

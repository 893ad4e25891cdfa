"""Multi-page TIFF: slices without a geometry."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.formats.voxels import frames_and_shape, numbers, one_line
from featlift.volumes.image import Image, once


def open_tiff(path: Path, key: str | None = None) -> Image:
    """Open a TIFF file: its pages are the slices, its time points or channels the frames."""
    with _only_series(path) as series:
        if "S" in series.axes:
            raise VolumeError("colour pages: convert it to one value a voxel")
        if not {"Y", "X"} <= set(series.axes):
            raise VolumeError(f"its axes are {series.axes!r}, not rows and columns: save it as a stack of slices")
        order = _slices_last(series.axes)
        frames, shape = frames_and_shape(tuple(series.shape[axis] for axis in order))
        numbers(np.dtype(series.dtype))

    def decode() -> NDArray[Any]:
        with _only_series(path) as series:
            return np.asarray(series.asarray()).transpose(order).reshape(frames, *shape)

    every_frame = once(decode, frames)
    return Image(shape, lambda frame: every_frame()[frame], frames=frames)


def _slices_last(axes: str) -> list[int]:
    """The axes in the order time, channel, Z, Y, X: ImageJ stores the channels of a slice one after the other."""
    return sorted(range(len(axes)), key=lambda axis: "ZYX".find(axes[axis]))


@contextmanager
def _only_series(path: Path) -> Iterator[Any]:
    import tifffile

    try:
        with (
            _errors_logged() as errors,
            io.BufferedReader(_Alone(path)) as opened,
            tifffile.TiffFile(opened, name=path.name) as file,
        ):
            found = file.series
            if _is_elsewhere(file, path.parent, errors):
                raise VolumeError("its slices are in other files, or in several: save them as one stack")
            if len(found) > 1:
                raise VolumeError(f"{len(found)} images one by one: save its slices as one stack")
            series = found[0]
            if any(page is None or 0 in (*page.dataoffsets, *page.databytecounts) for page in series):
                raise VolumeError("damaged TIFF (voxels without a place in the file): copy it again")  # read as zeros
            _refuse(errors)
            yield series
            _refuse(errors)
    except (VolumeError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds on damaged files
        raise VolumeError(f"not a readable TIFF ({one_line(error)}): copy it again") from error


class _Alone(io.FileIO):
    """A file that tifffile takes for a stream: of those it opens no other that their header names."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def _is_elsewhere(file: Any, folder: Path, errors: list[str]) -> bool:
    """Whether voxels are in files that OME-XML or Micro-Manager's metadata name, or its index beside the file."""
    if any("OME series failed to read" in error or "multi-file" in error for error in errors):
        return True
    about = file.micromanager_metadata or {}
    return about.get("MajorVersion", 0) >= 2 and (folder / "NDTiff.index").exists()


def _refuse(errors: list[str]) -> None:
    if errors:
        raise VolumeError(f"damaged TIFF ({one_line(errors[0])}): copy it again")


@contextmanager
def _errors_logged() -> Iterator[list[str]]:
    """What tifffile logs of trouble: of a damaged file it gives the pages that it finds and raises nothing."""
    errors: list[str] = []
    thread = threading.get_ident()

    def note(record: logging.LogRecord) -> bool:
        if record.thread == thread and record.levelno >= logging.WARNING:
            errors.append(record.getMessage())
        return False  # and nobody is told otherwise

    logger = logging.getLogger("tifffile")
    logger.addFilter(note)
    try:
        yield errors
    finally:
        logger.removeFilter(note)

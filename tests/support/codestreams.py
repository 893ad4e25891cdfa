"""Compress the pixels of DICOM files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

ENCAPSULATED = [RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1]


def compress(one: Dataset, syntax: UID, *, has_offsets: bool = True) -> Dataset:
    """Compress every frame of an uncompressed dataset, in place."""
    if syntax == ExplicitVRBigEndian:
        one.PixelData = np.frombuffer(one.PixelData, "<u2").astype(">u2").tobytes()
    elif syntax == JPEG2000Lossless:
        frames = np.frombuffer(one.PixelData, "<u2").reshape(-1, one.Rows, one.Columns)
        _encapsulate(one, map(_jpeg_2000, frames), has_offsets)
    elif syntax in (JPEGLossless, JPEGLosslessSV1):
        _encapsulate(one, _jpeg_lossless(one), has_offsets)
    elif syntax.is_encapsulated:
        one.compress(syntax, generate_instance_uid=False)
    one.file_meta.TransferSyntaxUID = syntax
    return one


def _encapsulate(one: Dataset, frames: Iterable[bytes], has_offsets: bool) -> None:
    one.PixelData = encapsulate(list(frames), has_bot=has_offsets)
    one["PixelData"].VR, one["PixelData"].is_undefined_length = "OB", True


def _jpeg_2000(frame: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(frame).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    return file.getvalue()


def _jpeg_lossless(one: Dataset) -> Iterator[bytes]:
    """pydicom encodes no lossless JPEG: GDCM does, from file to file; else imagecodecs."""
    if not find_spec("gdcm"):
        encode = pytest.importorskip("imagecodecs", reason="nothing encodes lossless JPEG").jpeg8_encode
        frames = np.frombuffer(one.PixelData, "<u2").reshape(-1, one.Rows, one.Columns)
        return (encode(frame, lossless=True) for frame in frames)
    import gdcm

    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "image.dcm")
        dcmwrite(path, one, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(path)
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(path)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return generate_frames(dcmread(path).PixelData, number_of_frames=int(one.get("NumberOfFrames", 1)))

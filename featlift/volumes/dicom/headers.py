"""The header of a DICOM file: the few tags that are read, and what can be wrong with them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from featlift.errors import RemoteError, VolumeError
from featlift.volumes.dicom.quiet import quiet

#: A value of a tag, as Python has it.
Value = float | str | tuple["Value", ...]

#: Tags that tell apart the images of one position by their values, which are the same at every position: in the words
#: of classic and of enhanced multi-frame objects.
VALUE_TAGS = (
    "EchoTime", "EffectiveEchoTime", "EchoNumbers", "FlipAngle",
    "TemporalPositionIdentifier", "TemporalPositionIndex", "NominalPercentageOfCardiacPhase",
    "DiffusionBValue", "DiffusionGradientOrientation", "SequenceName",
    "ImageType", "FrameType", "ComplexImageComponent", "KVP", "ConvolutionKernel",
    "ReferencedSegmentNumber",
)  # fmt: skip

#: Tags that tell them apart by the order of their values only, which may differ from slice to slice of one phase.
ORDER_TAGS = (
    "InversionTime", "InversionTimes", "TriggerTime", "NominalCardiacTriggerDelayTime",
    "FrameReferenceTime", "TemporalPositionTimeOffset", "AcquisitionNumber", "FrameAcquisitionNumber",
    "AcquisitionTime", "ContentTime", "InstanceNumber",
)  # fmt: skip

#: Every tag that is read before the pixels. The UIDs are only compared and hashed.
TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality",
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *VALUE_TAGS, *ORDER_TAGS,
)  # fmt: skip

#: What the pixels are decoded from: PS3.3 C.7.6.3 and C.11.1.
PIXEL_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ModalityLUTSequence",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
)  # fmt: skip

_LARGEST_DEFLATED = 1 << 30  # bytes when inflated
_STEP = 1 << 16
_META_START = 144  # preamble, mark, and the element whose value is the length of the rest, PS3.10 7.1


def read_header(file: BinaryIO) -> Dataset:
    """Read the `TAGS` of a DICOM file.

    Raises:
        VolumeError: it is no DICOM file, or a damaged one.
    """
    with reading("not readable as DICOM"):
        _refuse_bomb(file)
        header = dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
        if len(header) + len(header.file_meta) == 0:
            raise EOFError
        return header


def read_pixels(file: BinaryIO) -> Dataset:
    """Read the `PIXEL_TAGS` of a DICOM file, the pixels as they are stored.

    Raises:
        VolumeError: it is no DICOM file, or a damaged one.
    """
    with reading("not readable as DICOM"):
        _refuse_bomb(file)
        return dcmread(file, force=True, specific_tags=list(PIXEL_TAGS))


@contextmanager
def reading(problem: str) -> Iterator[None]:
    """The one place where what pydicom and its codecs raise on damaged bytes becomes a `VolumeError`.

    Their own messages are left out of it: they quote the values that they stumble over, whosever they are.
    """
    try:
        with quiet():
            yield
    except (VolumeError, RemoteError):
        raise
    except MemoryError as error:  # a damaged length asks for up to 4 GiB
        raise VolumeError(f"{problem}: it asks for more memory than there is") from error
    except OSError as error:
        raise VolumeError(f"cannot be read ({error.strerror or type(error).__name__})") from error
    except Exception as error:
        raise VolumeError(f"{problem}, damaged or truncated: copy it again") from error


@contextmanager
def error_context(name: str) -> Iterator[None]:
    """Errors with the name of the file."""
    try:
        yield
    except VolumeError as error:
        raise VolumeError(f"{name}: {error}") from error


def sop_class_of(header: Dataset) -> str:
    """What a file is, as the standard names it (PS3.6 A), or "" for what it does not know."""
    meta = getattr(header, "file_meta", Dataset())
    uid = UID(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    return "" if uid.name == uid else uid.name


def numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The values of a tag, None if it has none.

    Raises:
        VolumeError: they are not `count` finite numbers.
    """
    if header.get(keyword) is None:
        return None
    value = plain(header[keyword].value)
    values = value if isinstance(value, tuple) else (value,)
    found = tuple(each for each in values if isinstance(each, float) and math.isfinite(each))
    if len(found) != count or len(values) != count:
        raise VolumeError(f"its {keyword} is not {count} finite number{'s' * (count > 1)}: correct the tag")
    return found


def plain(value: object) -> Value:
    """A value of pydicom as plain Python."""
    if isinstance(value, (MultiValue, list, tuple)):
        return tuple(plain(each) for each in value)
    return float(value) if isinstance(value, (int, float, Decimal)) else str(value)


def _refuse_bomb(file: BinaryIO) -> None:
    """Bound what pydicom does not: it inflates a deflated file (PS3.5 A.5) in one go, whatever its size."""
    start = file.read(_META_START)
    start += file.read(int.from_bytes(start[-4:], "little") if len(start) == _META_START else 0)
    if DeflatedExplicitVRLittleEndian.encode() in start:
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while size <= _LARGEST_DEFLATED and (chunk := file.read(_STEP)):
            size += len(inflater.decompress(chunk))
        if size > _LARGEST_DEFLATED:
            raise VolumeError("inflates to more than 1 GiB: store it without compression")
    file.seek(0)

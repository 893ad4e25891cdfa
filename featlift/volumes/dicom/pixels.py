"""From files to voxels, one slice after the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import as_pixel_options, get_expected_length
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from featlift.errors import VolumeError
from featlift.volumes.dicom.codecs import codestream_size, rle_pixels, safest_plugin
from featlift.volumes.dicom.headers import error_context, read_pixels, reading
from featlift.volumes.dicom.members import opener
from featlift.volumes.dicom.quiet import quiet
from featlift.volumes.dicom.slices import Slice

_OTHER_SIZE = "its pixel data have another size than its header: copy it again"


def load_slices(root: Path, stack: Sequence[Slice]) -> NDArray[np.float32]:
    """Decode slices to values with a unit (HU, Bq/ml, ...), one file in memory at a time.

    MONOCHROME1 is left as it is: it says how to show values, not what they mean. So is padding around the field of
    view (PixelPaddingValue).

    Returns:
        ``(n, rows, columns)``.

    Raises:
        VolumeError: pixels that are missing, too few, damaged or compressed in a way that nothing here decodes; with
            the name of the file.
    """
    volume = np.empty((len(stack), *stack[0].shape), np.float32)
    places: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(stack):
        places[one.member].append(place)
    with quiet(), opener(root) as open_member:
        for member, of_member in places.items():
            with error_context(stack[of_member[0]].name):
                with reading("not readable as DICOM"), open_member(member) as file:
                    dataset = read_pixels(file)
                for place in of_member:
                    volume[place] = _values(dataset, stack[place])
    return volume


def _values(dataset: Dataset, one: Slice) -> NDArray[Any]:
    stored = _stored(dataset, one.frame)
    if stored.shape != one.shape:
        raise VolumeError(_OTHER_SIZE)
    if dataset.get("ModalityLUTSequence"):  # in place of slope and intercept, PS3.3 C.11.1
        with reading("its Modality LUT Sequence is not readable"):
            return np.asarray(apply_modality_lut(stored.astype(np.int32), dataset))
    return stored * one.slope + one.intercept


def _stored(dataset: Dataset, index: int) -> NDArray[Any]:
    """One frame as stored."""
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise VolumeError("has no pixel data, or they are cut off: copy it again")
    syntax = _transfer_syntax(dataset)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise VolumeError(_not_decoded(syntax)) from error
    plugin = safest_plugin(decoder)
    if decoder.is_encapsulated and not plugin:
        raise VolumeError(_not_decoded(syntax))
    with reading(f"its pixel data ({syntax.name}) are not decodable"):
        options = as_pixel_options(dataset)
        if decoder.is_encapsulated:
            _check_codestream(dataset.PixelData, syntax, index, options)
        elif len(dataset.get("PixelData", b"")) >= get_expected_length(dataset) + options["columns"]:
            raise VolumeError("holds more pixel data than its size explains: its header is damaged, copy it again")
        return decoder.as_array(dataset, index=index, raw=True, decoding_plugin=plugin, **options)[0]


def _check_codestream(pixels: bytes, syntax: UID, index: int, options: dict[str, Any]) -> None:
    frame = get_frame(
        pixels,
        index,
        number_of_frames=options["number_of_frames"],
        extended_offsets=options.get("extended_offsets"),
    )
    rows, columns = options["rows"], options["columns"]
    if syntax == RLELossless:
        is_right = rle_pixels(frame) <= rows * columns + 1  # a segment is padded to even length; pydicom sees fewer
    else:
        is_right = codestream_size(frame) in (None, (rows, columns))
    if not is_right:
        raise VolumeError(_OTHER_SIZE)


def _transfer_syntax(dataset: Dataset) -> UID:
    """As the file says; of an old file, which does not, as it was read (PS3.5 10.1)."""
    if syntax := dataset.file_meta.get("TransferSyntaxUID"):
        return UID(syntax)
    is_implicit, is_little_endian = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return UID(dataset.file_meta.TransferSyntaxUID)


def _not_decoded(syntax: UID) -> str:
    name = "a transfer syntax that is not of the standard" if syntax.name == syntax else syntax.name
    return f"compressed as {name}, which nothing installed decodes: decompress it first, for instance with gdcmconv -w"

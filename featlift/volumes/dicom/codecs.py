"""Choose what decodes compressed pixels: the safest of the plugins that are installed.

Pixel data are input from outside, and their decoders are native code. Under seeded mutations of the bytes of small
files, GDCM aborts the process or crashes it (lossless JPEG, JPEG-LS, JPEG 2000) and prints to the terminal;
libjpeg-turbo and CharLS (of imagecodecs), OpenJPEG (of imagecodecs, pylibjpeg and Pillow) and pydicom's own RLE raise
errors. So GDCM decodes only what nothing else does. pydicom has no plugin for imagecodecs: this module is one.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from struct import unpack_from

from pydicom import uid
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder

_SAFEST_FIRST = ("pydicom", "imagecodecs", "pylibjpeg", "pyjpegls", "pillow", "gdcm")

_FUNCTIONS = {
    uid.JPEGBaseline8Bit: "jpeg8_decode",
    uid.JPEGExtended12Bit: "jpeg8_decode",
    uid.JPEGLossless: "jpeg8_decode",
    uid.JPEGLosslessSV1: "jpeg8_decode",
    uid.JPEGLSLossless: "jpegls_decode",
    uid.JPEGLSNearLossless: "jpegls_decode",
    uid.JPEG2000Lossless: "jpeg2k_decode",
    uid.JPEG2000: "jpeg2k_decode",
    uid.HTJ2KLossless: "jpeg2k_decode",
    uid.HTJ2KLosslessRPCL: "jpeg2k_decode",
    uid.HTJ2K: "jpeg2k_decode",
}

#: What pydicom says where a plugin is missing, by its convention for plugins.
DECODER_DEPENDENCIES = dict.fromkeys(_FUNCTIONS, ("imagecodecs",))

_NO_SIZE = {0xC4, 0xC8, 0xCC}  # of the markers 0xC0 to 0xCF, those that do not start a frame (ITU-T T.81, table B.1)
_JPEG_LS_FRAME = 0xF7


def safest_plugin(decoder: Decoder) -> str:
    """The plugin to decode with; "" if none is installed."""
    return next((name for name in _SAFEST_FIRST if name in decoder.available_plugins), "")


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream claims, None where it claims none.

    A decoder asks for memory by these, not by the tags of the file.
    """
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:  # SOC, SIZ: ITU-T T.800, A.5.1
        right, bottom, left, top = unpack_from(">4I", frame, 8)
        return bottom - top, right - left
    offset = 2
    while frame[:2] == b"\xff\xd8" and offset + 9 <= len(frame) and frame[offset] == 0xFF:  # ITU-T T.81, B.1.1
        marker = frame[offset + 1]
        if marker == _JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in _NO_SIZE):
            rows, columns = unpack_from(">2H", frame, offset + 5)
            return rows, columns
        is_fill = marker == 0xFF
        offset += 1 if is_fill else 2 + unpack_from(">H", frame, offset + 2)[0]
    return None


def rle_pixels(frame: bytes) -> int:
    """How many pixels a run length encoded frame holds, PS3.5 G; pydicom would leave out those it does not expect.

    Counted in the first segment, the high bytes: long runs, so quick.
    """
    segments, start, end = unpack_from("<3L", frame)
    pixels, offset, end = 0, start, end if segments > 1 else len(frame)
    while offset < end:
        count = frame[offset]
        if count < 128:
            pixels += count + 1
            offset += count + 2
        else:
            pixels += 257 - count if count > 128 else 0
            offset += 2 if count > 128 else 1
    return pixels


def is_available(syntax: str) -> bool:
    """Whether this plugin decodes a transfer syntax, by pydicom's convention for plugins."""
    return syntax in _FUNCTIONS and find_spec("imagecodecs") is not None


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytes:
    """Decode a frame, by pydicom's convention for plugins; it has the signs corrected and the shape checked."""
    decode = getattr(import_module("imagecodecs"), _FUNCTIONS[runner.transfer_syntax])
    image = decode(frame)
    runner.set_option("bits_allocated", 8 * image.dtype.itemsize)
    return bytes(image.tobytes())


for _syntax in _FUNCTIONS:
    get_decoder(_syntax).add_plugin("imagecodecs", (__name__, "decode_frame"))

"""Pixels: every transfer syntax, and what is damaged, cut off or not decodable."""

from __future__ import annotations

import logging
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from featlift.errors import VolumeError
from featlift.volumes.dicom import dicom_in_zip, find_series, headers, open_series
from featlift.volumes.dicom.codecs import codestream_size
from featlift.volumes.dicom.quiet import quiet
from tests.support.codestreams import ENCAPSULATED, compress
from tests.support.series import (
    assert_private,
    enhanced,
    expected,
    opened,
    refusal,
    save,
    set_pixels,
    slices,
    stored,
    written_and_opened,
)

NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def names(syntaxes: list[UID]) -> list[str]:
    return [syntax.keyword for syntax in syntaxes]


@pytest.mark.parametrize("syntax", [*NATIVE, *ENCAPSULATED], ids=names([*NATIVE, *ENCAPSULATED]))
@pytest.mark.parametrize("is_enhanced", [False, True], ids=["classic", "enhanced"])
def test_lossless_transfer_syntaxes(tmp_path: Path, syntax: UID, is_enhanced: bool) -> None:
    written = [enhanced(slices())] if is_enhanced else slices()
    image = written_and_opened(tmp_path, [compress(one, syntax, has_offsets=False) for one in written])
    assert dcmread(tmp_path / "IM000").file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(image.load(0), expected())


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=names([RLELossless, JPEGLSLossless]))
def test_signed_pixels_in_a_codestream(tmp_path: Path, syntax: UID) -> None:
    written = slices()
    for number, one in enumerate(written):
        set_pixels(one, stored(number).astype(np.int16) - 1500)
        one.compress(syntax)
    assert np.array_equal(written_and_opened(tmp_path, written).load(0), expected() - 1500)


def test_lossy_pixels_are_close(tmp_path: Path) -> None:
    written = slices()
    for one in written:
        one.compress(JPEGLSNearLossless, jls_error=3)
    values = written_and_opened(tmp_path, written).load(0)
    assert 0 < np.abs(values - expected()).max() <= 3


def test_baseline_jpeg(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    written = slices()
    for number, one in enumerate(written):
        file = BytesIO()
        Image.fromarray((stored(number) // 16).astype(np.uint8)).save(file, "JPEG", quality=100)
        set_pixels(one, stored(number).astype(np.uint8), 8)
        one.PixelData, one.file_meta.TransferSyntaxUID = encapsulate([file.getvalue()]), JPEGBaseline8Bit
        one["PixelData"].VR, one["PixelData"].is_undefined_length = "OB", True
    values = written_and_opened(tmp_path, written).load(0) + 1024
    assert np.abs(values - np.stack([stored(number) // 16 for number in range(6)])).max() <= 3


def test_frames_by_an_extended_offset_table(tmp_path: Path) -> None:
    whole = compress(enhanced(slices()), JPEG2000Lossless)
    frames = list(generate_frames(whole.PixelData, number_of_frames=6))
    whole.PixelData, whole.ExtendedOffsetTable, whole.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    assert np.array_equal(written_and_opened(tmp_path, [whole]).load(0), expected())


def test_a_frame_in_several_fragments(tmp_path: Path) -> None:
    written = [compress(one, JPEG2000Lossless) for one in slices()]
    for one in written:
        (frame,) = generate_frames(one.PixelData, number_of_frames=1)
        one.PixelData = encapsulate([frame], fragments_per_frame=3)
    assert np.array_equal(written_and_opened(tmp_path, written).load(0), expected())


@pytest.mark.parametrize(
    ("syntax", "name"),
    [(MPEG2MPML, MPEG2MPML.name), ("1.2.840.10008.9.9.9", "a transfer syntax that is not of the standard")],
    ids=["MPEG2", "unknown"],
)
def test_what_nothing_decodes_is_named(tmp_path: Path, syntax: str, name: str) -> None:
    written = [compress(one, RLELossless) for one in slices()]
    for one in written:
        one.file_meta.TransferSyntaxUID = MPEG2MPML if syntax == MPEG2MPML else RLELossless
    save(tmp_path, written)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes().replace(RLELossless.encode(), syntax.encode()))
    assert refusal(tmp_path) == (
        f"IM000: compressed as {name}, which nothing installed decodes: decompress it first, for instance with "
        "gdcmconv -w"
    )


def test_a_syntax_whose_plugins_are_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featlift.volumes.dicom.codecs._SAFEST_FIRST", ())
    message = refusal(tmp_path, [compress(one, JPEGLSLossless) for one in slices()])
    assert message.startswith("IM000: compressed as JPEG-LS Lossless Image Compression, which nothing installed")


def test_image_without_pixel_data(tmp_path: Path) -> None:
    written = slices()
    del written[4].PixelData
    assert refusal(tmp_path, written) == "IM004: has no pixel data, or they are cut off: copy it again"


@pytest.mark.parametrize("change", [-2, -100])
def test_uncompressed_pixels_that_are_too_few_are_not_padded(tmp_path: Path, change: int) -> None:
    written = slices()
    written[4].PixelData = written[4].PixelData[:change]
    assert refusal(tmp_path, written) == (
        "IM004: its pixel data (Explicit VR Little Endian) are not decodable, damaged or truncated: copy it again"
    )


def test_uncompressed_pixels_that_are_too_many(tmp_path: Path) -> None:
    written = slices()
    written[4].PixelData *= 2
    message = refusal(tmp_path, written)
    assert message == "IM004: holds more pixel data than its size explains: its header is damaged, copy it again"


def test_a_few_bytes_of_padding_are_no_damage(tmp_path: Path) -> None:
    written = slices()
    written[4].PixelData += bytes(6)
    assert np.array_equal(written_and_opened(tmp_path, written).load(0), expected())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *ENCAPSULATED, DeflatedExplicitVRLittleEndian])
def test_a_file_that_is_cut_off(tmp_path: Path, syntax: UID) -> None:
    save(tmp_path, [compress(one, syntax) for one in slices()])
    file = tmp_path / "IM003"
    file.write_bytes(file.read_bytes()[:-20])
    (series,), skipped = find_series(tmp_path, [f"IM{number:03}" for number in range(6)])
    if skipped:  # deflated: nothing of it can be read
        assert skipped[0].reason == "not readable as DICOM, damaged or truncated: copy it again"
        return
    with pytest.raises(VolumeError) as caught:
        open_series(tmp_path, series.members).load(0)
    assert str(caught.value).startswith("IM003: ")
    assert str(caught.value).endswith(": copy it again")


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=names(ENCAPSULATED))
def test_a_codestream_that_is_none(tmp_path: Path, syntax: UID) -> None:
    written = [compress(one, syntax) for one in slices()]
    written[3].PixelData = encapsulate([b"Doe^Jane" * 20])
    assert refusal(tmp_path, written) == (
        f"IM003: its pixel data ({syntax.name}) are not decodable, damaged or truncated: copy it again"
    )


@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=names(ENCAPSULATED))
def test_a_codestream_of_another_size(tmp_path: Path, syntax: UID) -> None:
    """Its header, not that of the file, is what a decoder would ask for memory by."""
    written, larger = slices(), slices(1, shape=(24, 20))[0]
    for one in [*written, larger]:
        compress(one, syntax)
    written[3].PixelData = larger.PixelData
    message = refusal(tmp_path, written)
    assert message == "IM003: its pixel data have another size than its header: copy it again"


def test_the_size_that_a_codestream_claims() -> None:
    jpeg_2000 = b"\xff\x4f\xff\x51" + struct.pack(">2H4I", 41, 0, 70_010, 60_020, 10, 20) + bytes(30)
    assert codestream_size(jpeg_2000) == (60_000, 70_000)
    comment = b"\xff\xfe\x00\x06Jane"
    fill = b"\xff"
    jpeg = b"\xff\xd8" + comment + fill + b"\xff\xc3\x00\x0b\x0c" + struct.pack(">2H", 60_000, 50_000) + bytes(9)
    assert codestream_size(jpeg) == (60_000, 50_000)
    assert codestream_size(jpeg.replace(b"\xff\xc3", b"\xff\xf7")) == (60_000, 50_000)
    for short in (b"", jpeg[:2], jpeg[:9], jpeg[:14], jpeg_2000[:20], b"\xff\xd8" + bytes(40)):
        assert codestream_size(short) is None


def test_a_deflated_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, [compress(one, DeflatedExplicitVRLittleEndian) for one in slices(1)])
    monkeypatch.setattr(headers, "_LARGEST_DEFLATED", 1000)
    series, skipped = find_series(tmp_path, ["IM000"])
    assert series == []
    assert skipped[0].reason == "inflates to more than 1 GiB: store it without compression"


def zip_of(folder: Path, how: int) -> Path:
    path = folder.with_suffix(".zip")
    with ZipFile(path, "w", how) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


def test_a_zip_with_a_damaged_member(tmp_path: Path) -> None:
    shape = (64, 64)
    save(tmp_path / "pacs", slices(shape=shape))
    archive = zip_of(tmp_path / "pacs", ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[content.rindex(stored(3, shape).tobytes()) + 5000] ^= 1
    archive.write_bytes(content)
    (series,), _ = find_series(archive, dicom_in_zip(archive))
    with pytest.raises(VolumeError, match="IM003: not readable as DICOM, damaged or truncated: copy it again"):
        open_series(archive, series.members).load(0)


def test_a_zip_that_claims_more_than_deflate_can_hold_is_not_inflated(tmp_path: Path) -> None:
    save(tmp_path / "pacs", slices(1))
    archive = zip_of(tmp_path / "pacs", 8)
    content = archive.read_bytes()
    size = struct.pack("<I", (tmp_path / "pacs" / "IM000").stat().st_size)
    archive.write_bytes(content.replace(size, struct.pack("<I", 3 << 30)))
    series, skipped = find_series(archive, ["IM000"])
    assert series == []
    assert skipped[0].reason == "claims 3,221,225,472 bytes in the .zip: pack it again"


def test_an_encrypted_zip(tmp_path: Path) -> None:
    save(tmp_path / "pacs", slices(1))
    archive = zip_of(tmp_path / "pacs", 8)
    content = bytearray(archive.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    _, skipped = find_series(archive, ["IM000"])
    assert skipped[0].reason == "encrypted: unpack the .zip"


def test_a_file_that_vanished(tmp_path: Path) -> None:
    save(tmp_path, slices())
    image = opened(tmp_path)
    (tmp_path / "IM002").unlink()
    with pytest.raises(VolumeError) as caught:
        image.load(0)
    assert str(caught.value) == "IM002: cannot be read (No such file or directory)"
    assert_private(str(caught.value), tmp_path)


def test_nothing_of_pydicom_reaches_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    written = slices()
    for one in written:
        one.PixelData += bytes(6)  # of which pydicom warns
    save(tmp_path, written)
    file = tmp_path / "IM001"
    file.write_bytes(file.read_bytes().replace(b"\\PRIMARY\\", b"\\primary\\"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        opened(tmp_path).load(0)
    assert not warned
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_silence_ends_with_the_last_thread() -> None:
    logger = logging.getLogger("pydicom")
    level, filters = logger.level, list(warnings.filters)

    def silent(_: int) -> None:
        with quiet():
            assert logger.level > logging.CRITICAL
            with quiet():
                pass
            assert logger.level > logging.CRITICAL

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(silent, range(500)))
    assert logger.level == level
    assert warnings.filters == filters


def test_only_the_tags_named_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    read = pydicom.dcmread

    def watched(*args: object, **kwargs: object) -> Dataset:
        dataset = read(*args, **kwargs)
        seen.update(element.keyword for element in dataset)
        return dataset

    monkeypatch.setattr(headers, "dcmread", watched)
    written_and_opened(tmp_path, slices()).load(0)
    assert seen <= {*headers.TAGS, *headers.PIXEL_TAGS, "SpecificCharacterSet"}
    personal = ("Patient", "Physician", "Operator", "Institution", "Study", "Description", "Comments", "Date", "Name")
    assert not [tag for tag in seen if tag.startswith(personal) or "Description" in tag or tag.endswith("Date")]


def test_importing_the_package_leaves_help_light() -> None:
    """`featlift --help` must not load pydicom."""
    import subprocess
    import sys

    code = "import sys, featlift.volumes.source, featlift.volumes.image; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Seeded damage: whatever the bytes, a series is read or refused; the process lives and nothing leaks."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLossless, JPEGLosslessSV1

from featlift.volumes.dicom.codecs import safest_plugin
from tests.support.codestreams import ENCAPSULATED, compress
from tests.support.series import enhanced, save, slices
from tests.support.thinned import every

SYNTAXES = [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, *ENCAPSULATED]


@pytest.mark.parametrize("syntax", every(2, SYNTAXES), ids=[syntax.keyword for syntax in SYNTAXES])
def test_damaged_files(tmp_path: Path, syntax: UID) -> None:
    if syntax in (JPEGLossless, JPEGLosslessSV1) and not find_spec("imagecodecs"):
        pytest.skip("GDCM, all that decodes lossless JPEG without imagecodecs, does not survive this")
    for is_enhanced in (False, True):
        folder = tmp_path / f"{is_enhanced}"
        written = slices(4, shape=(24, 20))
        save(folder, [compress(one, syntax) for one in ([enhanced(written)] if is_enhanced else written)])
        command = [sys.executable, "-W", "always", "-m", "tests.volumes.dicom.fuzz", str(folder), "60"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_gdcm_decodes_only_what_nothing_else_does() -> None:
    class Decoder:
        def __init__(self, *plugins: str) -> None:
            self.available_plugins = plugins

    assert safest_plugin(Decoder("gdcm", "pillow", "pylibjpeg")) == "pylibjpeg"
    assert safest_plugin(Decoder("gdcm", "imagecodecs")) == "imagecodecs"
    assert safest_plugin(Decoder("gdcm")) == "gdcm"
    assert safest_plugin(Decoder()) == ""

"""Volumes that travel between processes arrive as they were."""

import sys

import numpy as np
import pytest

from featlift.volumes import Preparation, find_scans
from featlift.volumes.loading import load
from featlift.volumes.parcels import pack, unpack
from tests.support.scans import write_scan


def test_a_loaded_scan_arrives_as_it_was(tmp_path):
    write_scan(tmp_path / "a.nii.gz")
    scan = find_scans([tmp_path]).scans[0]
    loaded = load(scan, Preparation(size=(48,)))
    parcel = pack(loaded, tmp_path / "parcel")
    assert parcel.size >= loaded.prepared.scan.nbytes
    arrived = unpack(parcel)
    assert not (tmp_path / "parcel").exists()
    np.testing.assert_array_equal(arrived.prepared.scan, loaded.prepared.scan)
    np.testing.assert_array_equal(arrived.prepared.affine, loaded.prepared.affine)
    assert (arrived.scan, arrived.source, arrived.notes) == (scan, loaded.source, loaded.notes)
    arrived.prepared.scan[:] = 0  # it may be written to, and lives without its file


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.arange(7, dtype=np.int8)[::2], np.asfortranarray(np.eye(3))])
def test_arrays_of_any_layout(tmp_path, array):
    values = unpack(pack({"first": np.ones(3, np.int8), "then": array}, tmp_path / "parcel"))
    np.testing.assert_array_equal(values["then"], array)
    assert values["then"].dtype == array.dtype


def test_reading_needs_no_torch(tmp_path):
    """What a reading process imports before its first scan: it starts in a fraction of a second."""
    import subprocess

    code = "import sys, featlift.volumes.reader; print('torch' in sys.modules, 'zarr' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

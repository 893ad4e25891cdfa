"""Scans that memory does not hold at their own spacing: a coarser grid, a field at full size, in slabs."""

import json

import numpy as np
import pytest
import torch

from featlift.registration import ConvexAdam, DisplacementField, PairSettings, register
from featlift.registration.common_grid import spacing_within
from featlift.registration.sampling import resized, resized_slices
from featlift.volumes import Volume
from featlift.volumes.nifti import write_nifti
from tests.conftest import GOLDEN

STRAIGHT = np.eye(4)[[2, 1, 0, 3]]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scan():
    array = np.load(GOLDEN / "systems" / "registration.npz")["pair0/fixed"].astype(np.float32)
    return Volume(array, STRAIGHT)


@pytest.mark.parametrize("shape", [(40, 30, 21), (7, 12, 9), (1, 30, 20)])
def test_slabs_are_the_whole(shape):
    field = torch.randn(3, min(9, shape[0]), 11, 8)
    whole = resized(field, shape)
    for first in range(0, shape[0], 4):
        slices = range(first, min(first + 4, shape[0]))
        found = resized_slices(field, shape, slices)
        assert torch.allclose(found, whole[:, slices.start : slices.stop], atol=1e-4)


def test_less_memory_gives_a_coarser_grid():
    """As many voxels as there is room for, whatever the shape and the spacing; a slice grows along two axes."""
    volume = Volume(np.broadcast_to(np.float32(0), (300, 512, 512)), STRAIGHT @ np.diag([1, 0.8, 0.8, 1]))
    edges = [spacing_within(volume, volume, 12, memory, CPU) for memory in (10**12, 16 * 10**9, 8 * 10**9)]
    assert edges[0] == pytest.approx(0.8)
    assert edges[0] < edges[1] < edges[2]
    cells = [300 * (512 * 0.8) ** 2 / edge**3 for edge in edges[1:]]
    room = [each - 600e6 - 24 * 2 * volume.array.size for each in (16e9, 8e9)]
    assert cells[0] / cells[1] == pytest.approx(room[0] / room[1])
    more = spacing_within(volume, volume, 36, 8 * 10**9, CPU)
    assert more / edges[2] == pytest.approx(3 ** (1 / 3))
    flat = Volume(np.broadcast_to(np.float32(0), (1, 40000, 40000)), STRAIGHT)
    one, four = (spacing_within(flat, flat, channels, 10**12, CPU) for channels in (100, 400))
    assert four / one == pytest.approx(2)
    said = []
    spacing_within(volume, volume, 12, 8 * 10**9, CPU, said.append)
    assert len(said) == 1
    assert "0.80 mm, for 8 GB" in said[0]


def test_the_field_has_the_size_of_the_scan(featlift, tmp_path, scan):
    """And is right: two scans that are the same but for a shift, on a grid of eight times fewer voxels."""
    moved = Volume(scan.array, scan.affine @ np.array([[1, 0, 0, -2], [0, 1, 0, 3], [0, 0, 1, 2], [0, 0, 0, 1.0]]))
    found = register(scan, moved, PairSettings(spacing=2, convex_adam=ConvexAdam(cell=3, reach=3)))
    assert found.field.shape == scan.array.shape
    inner = found.field.in_voxels[:, 10:-10, 12:-12, 10:-10].mean(axis=(1, 2, 3))
    assert inner == pytest.approx([-2, 3, 2], abs=0.5)
    write_nifti(tmp_path / "fixed.nii.gz", scan.array, scan.affine)
    write_nifti(tmp_path / "moved.nii.gz", moved.array, moved.affine)
    run = ("register", "run", "fixed.nii.gz", "moved.nii.gz", "-o", "out", "--iterations", 2)
    assert "common grid" not in featlift(*run).stderr
    done = featlift(*run, "--memory", "50MB")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("common grid") == 1
    assert "instead of 1.00 mm, for 50 MB" in done.stderr
    kept = json.loads((tmp_path / "out" / "run.json").read_text())
    assert kept["settings"]["memory"] == 50_000_000
    assert max(kept["grid"]["spacing"]) > 1.2
    assert DisplacementField.read(tmp_path / "out" / "field.nii.gz").shape == scan.array.shape

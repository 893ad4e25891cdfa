"""The phantom is what it says: cells in one piece, membranes, organelles, thick and shifted sections, noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from featlift import open_store
from featlift.metrics.instances import adapted_rand, near_borders, overlaps
from featlift.segmentation.instances.affinities import affinities, widened
from featlift.segmentation.instances.agglomeration import agglomerate
from featlift.segmentation.instances.fragments import fragments_of
from featlift.volumes import read, read_instances
from featlift.volumes.volume import spacing_of
from tests.support.neuropil import NEURONS, RAW, neuropil
from tests.support.scans import patch_mean_options

SHAPE = (10, 72, 80)


@pytest.fixture(scope="module")
def phantom():
    return neuropil(0, SHAPE, cells=20)


def test_a_phantom_of_its_own_for_every_seed(phantom):
    again, other = neuropil(0, SHAPE, cells=20), neuropil(1, SHAPE, cells=20)
    np.testing.assert_array_equal(again.raw, phantom.raw)
    np.testing.assert_array_equal(again.labels, phantom.labels)
    assert adapted_rand(overlaps(phantom.labels, other.labels)).error > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_cells_fill_the_volume_each_in_one_piece(seed):
    labels = neuropil(seed, SHAPE, cells=20).labels
    ids, sizes = np.unique(labels, return_counts=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert 15 <= len(ids) <= 30
    assert sizes.min() >= 60
    assert all(label(labels == each)[1] == 1 for each in ids)


def test_sections_are_thick_and_shifted(phantom):
    along, down, right = affinities(phantom.labels).mean(axis=(1, 2, 3))
    assert along < min(down, right)
    straight = neuropil(0, SHAPE, cells=20, shift=0)
    assert not straight.shifts.any()
    assert np.diff(phantom.shifts, axis=0).std() == pytest.approx(0.7, rel=0.5)
    jittery = neuropil(0, SHAPE, cells=20, shift=4)
    assert affinities(jittery.labels)[0].mean() < affinities(straight.labels)[0].mean()


def test_what_is_dark(phantom):
    """Membranes of all, then organelles, then the inside of cells; noise alone from pixel to pixel there."""
    raw = phantom.raw.astype(float)
    on_membrane, near = near_borders(phantom.labels, 0), near_borders(phantom.labels, 4)
    inside = ~near & ~phantom.organelles
    assert phantom.organelles.any()
    assert not (phantom.organelles & on_membrane).any()
    assert raw[on_membrane].mean() < raw[phantom.organelles].mean() < raw[inside].mean()
    neighbours = inside[..., 1:] & inside[..., :-1]
    assert np.diff(raw, axis=-1)[neighbours].std() == pytest.approx(13 * np.sqrt(2), rel=0.15)
    clean = neuropil(0, SHAPE, cells=20, noise=0)
    assert np.diff(clean.raw.astype(float), axis=-1)[neighbours].std() < 6


def test_cells_come_back_from_their_affinities(phantom):
    pytest.importorskip("waterz")
    predicted = affinities(widened(phantom.labels)) * np.uint8(255)
    (found,) = agglomerate(predicted, [0.5], fragments_of(predicted))
    assert adapted_rand(overlaps(phantom.labels, found)).error < 0.15


def test_a_file_of_cremi(tmp_path):
    phantom = neuropil(2, (6, 40, 40), cells=8, first_id=2**60)
    path = phantom.write(tmp_path / "sample_A.hdf")
    found = read_instances(path, key=NEURONS)
    np.testing.assert_array_equal(found.array, phantom.labels)
    np.testing.assert_allclose(found.resolution, phantom.resolution)
    np.testing.assert_array_equal(read(path, key=RAW).array, phantom.raw)


def test_its_raw_is_extracted_where_the_file_says(featlift, tmp_path):
    phantom = neuropil(2, (6, 40, 40), cells=8)
    path = phantom.write(tmp_path / "sample_A.hdf")
    options = (*patch_mean_options(tmp_path, patch=4), "--mode", "2d", "--intensity", "window:0,255")
    done = featlift("extract", f"{path.name}::{RAW}", *options)
    assert done.returncode == 0, done.stderr
    (case,) = open_store(tmp_path / "features.zarr").values()
    assert case.scan_shape == phantom.raw.shape
    np.testing.assert_allclose(spacing_of(case.scan_affine), np.array(phantom.resolution) * 1e-6)

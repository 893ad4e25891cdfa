"""What an evaluation is given instead of, or beside, stored features."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from torch.nn.functional import adaptive_avg_pool3d

from featlift import extract
from featlift.errors import OptionError, StoreError
from featlift.evaluation import DenseProtocol, Protocol, dense_probe, embeddings_of, featdice, slices_of
from featlift.evaluation.sources import check_sources, coordinates, features_from, intensity
from featlift.store import open_store
from featlift.volumes.nifti import write_nifti
from featlift.volumes.volume import Volume
from tests.support import planted


@pytest.fixture
def store(tmp_path):
    planted.plant(tmp_path / "s.zarr", ("one", "two", "three"))
    return open_store(tmp_path / "s.zarr")


def masks_of(store, folder):
    """Organ 2 of the planted body in each scan, on the voxels of the scan."""
    labels = np.kron(planted.body() == 2, np.ones(planted.STRIDE)).astype(np.int32)
    paths = {}
    for case_id in store:
        paths[case_id] = folder / f"{case_id}.nii.gz"
        folder.mkdir(exist_ok=True)
        write_nifti(paths[case_id], labels, planted.AFFINE)
    return paths


def test_coordinates_know_millimetres_from_the_middle_and_nothing_else(store):
    case = store["one"]
    codes = coordinates(case, case)
    assert codes.shape == (36, *planted.CELLS)
    np.testing.assert_array_equal(codes, coordinates(store["two"], store["two"]))
    # the slowest wave along w: 256 mm, of a cell at (1.5 + 4 i) voxels of 0.7 mm
    at = (1.5 + 4 * np.arange(10) - 19.5) * 0.7
    np.testing.assert_allclose(codes[24 + 5, 0, 0], np.sin(2 * np.pi * at / 256), atol=1e-6)
    np.testing.assert_allclose(codes[24 + 11, 3, 2], np.cos(2 * np.pi * at / 256), atol=1e-6)
    assert np.ptp(codes[24:], axis=(1, 2)).max() < 1e-6  # nothing of w along d and h


def test_intensities_are_means_of_the_scan_at_four_scales(store):
    case = store["one"]
    found = intensity(case, case)
    scan = np.asarray(case.scan[:], np.float32)
    means = scan.reshape(6, 8, 4, 10, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(found[0], (means - means.mean()) / means.std(), atol=1e-3)
    for channel, width in zip(found[1:], (1, 2, 4), strict=True):
        in_cells = [width * 4 * 0.7 / 3.0, width * 0.7 / 0.8, width]  # slices of 3 mm, cells of 3.2 and 2.8 mm
        smooth = gaussian_filter(found[0], in_cells, mode="nearest")
        np.testing.assert_allclose(channel, (smooth - smooth.mean()) / smooth.std(), atol=1e-3)


def test_smoothing_is_along_depth_only(store):
    case = store["one"]
    stored, smoothed = (features_from(case, case, name) for name in ("stored", "smoothed"))
    assert smoothed.shape == stored.shape
    width = 4 * 0.7 / 2 / 3.0  # half a cell in the plane, in slices of 3 mm
    np.testing.assert_allclose(smoothed, gaussian_filter1d(stored, width, axis=1, mode="nearest"), atol=1e-5)
    assert np.abs(smoothed - stored).max() > 0.1


def test_side_by_side_none_outweighs_the_other(store):
    case = store["one"]
    both = features_from(case, case, "stored+coordinates")
    assert len(both) == planted.CHANNELS + 36
    for part in (both[: planted.CHANNELS], both[planted.CHANNELS :]):
        assert np.square(part).sum(axis=0).mean() == pytest.approx(1, abs=1e-3)


def test_all_layers_stand_side_by_side_none_longer_than_another():
    case = extract(
        Volume(np.random.default_rng(0).random((4, 32, 48), np.float32)),
        "vit_tiny_patch16_224",
        weights="random:0",
        loading={"depth": 2},
        mode="2d",
        layers=(0, 1),
    )
    both = features_from(case, case, "layers")
    for part, layer in zip(np.split(both, 2), case.layers.values(), strict=True):
        stored = np.asarray(layer.dense[:, :, :2, :3], np.float32)
        np.testing.assert_allclose(part, stored / np.sqrt(np.square(stored).sum(axis=0).mean()), rtol=1e-3, atol=1e-4)


def test_raw_voxels_are_a_control_of_volumes(store, tmp_path):
    vectors = embeddings_of(store, list(store), "voxels")
    scan = torch.from_numpy(np.asarray(store["one"].scan[:], np.float32))
    assert vectors.shape == (3, 512)
    np.testing.assert_allclose(vectors[0], adaptive_avg_pool3d(scan[None], 8).ravel(), atol=1e-6)
    assert [len(slices) for slices in slices_of(store, list(store), "voxels")] == [1, 1, 1]
    planted.plant(tmp_path / "bare.zarr", ("one",), save=("dense", "embedding"))
    with pytest.raises(StoreError, match="scan"):
        embeddings_of(open_store(tmp_path / "bare.zarr"), ["one"], "voxels")


def test_unknown_sources_are_refused(store):
    for given, says in (("stores", "'stores'"), ("stored+stored", "twice"), ("", "''")):
        with pytest.raises(OptionError, match=says):
            check_sources(given)
        with pytest.raises(OptionError, match=says):
            DenseProtocol(features=given)
        with pytest.raises(OptionError, match=says):
            Protocol(features=given)


def test_a_place_that_is_the_same_in_every_case_is_found_by_coordinates_alone(store, tmp_path):
    """What the control is for: it scores where a crop gives its label away, and no network took part."""
    masks = masks_of(store, tmp_path / "masks")
    splits = {"one": "train", "two": "train", "three": "test"}
    scores = dense_probe(store, masks, splits, DenseProtocol(on="mask", features="coordinates"))
    assert scores[0].labels[1][0].dice > 0.9


def test_scores_on_the_masks_voxels_and_on_the_scans_agree_where_these_are_the_same(store, tmp_path):
    masks = masks_of(store, tmp_path / "masks")
    by_grid = {
        on: [score.labels[1] for score in featdice(store, masks, Protocol(on=on, nearest="centre"))]
        for on in ("scan", "mask")
    }
    for scan, mask in zip(*by_grid.values(), strict=True):
        assert scan.best_dice == pytest.approx(mask.best_dice, abs=1e-3)
        assert scan.auroc == pytest.approx(mask.auroc, abs=1e-3)


def test_thin_labels_are_learned_on_voxels_and_lost_on_cells(store, tmp_path):
    """A sheet of one voxel between the centres of cells is on no cell: trained on cells, there is nothing to tell."""
    labels = np.zeros(planted.SHAPE, np.int32)
    labels[:, :, 12] = 1  # cells are centred at 9.5 and 13.5 and take voxels 10 and 14
    masks = {}
    for case_id in store:
        masks[case_id] = tmp_path / f"{case_id}.nii.gz"
        write_nifti(masks[case_id], labels, planted.AFFINE)
    splits = {"one": "train", "two": "train", "three": "test"}
    with pytest.raises(OptionError, match="no feature cell of any training case"):
        dense_probe(store, masks, splits, DenseProtocol(features="coordinates"))
    (score,) = dense_probe(store, masks, splits, DenseProtocol(on="mask", features="coordinates", weighting="labels"))
    assert score.labels[1][0].dice > 0.3

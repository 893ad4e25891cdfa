"""FeatDice's procedures: as the reference has them, and where the answer is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from featlift.evaluation import CellGrid, cosine_similarity, dice, segment_by_centre, segment_by_prototypes
from tests.conftest import GOLDEN

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def reference():
    """What the reference's own procedures give (see tests/golden/README.md)."""
    return dict(np.load(GOLDEN / "featdice.npz"))


@pytest.mark.parametrize("case", "abc")
def test_the_centre_is_that_of_the_lidc_script(reference, case):
    names = ("features", "mask", "map", "dice")
    features, mask, expected, score = (reference[f"centre/{case}/{name}"] for name in names)
    segmentation = segment_by_centre(features, mask)
    np.testing.assert_allclose(segmentation.map_of(1), expected, atol=1e-5)
    assert dice(segmentation.prediction == 1, mask > 0) == pytest.approx(float(score), abs=1e-5)


@pytest.mark.parametrize("case", "abc")
def test_the_prototypes_are_those_of_the_whole_heart_notebook(reference, case):
    """Which reads labels at the corners of cells. In `c` the last class has no cell."""
    names = ("features", "labels", "prediction")
    features, labels, prediction = (reference[f"prototype/{case}/{name}"] for name in names)
    segmentation = segment_by_prototypes(features, labels.astype(np.int32), nearest="corner")
    np.testing.assert_array_equal(segmentation.prediction, prediction)
    classes = range(1, labels.max() + 1)
    dices = [dice(segmentation.prediction == label, labels == label) for label in classes]
    np.testing.assert_allclose(dices, reference[f"prototype/{case}/dice_per_class"], atol=1e-5)
    assert np.mean(dices) == pytest.approx(float(reference[f"prototype/{case}/dice"]), abs=1e-5)
    assert (classes[-1] in segmentation.similarity) == (case != "c")


def blob(shape=(6, 9, 8)):
    mask = np.zeros(shape, np.int32)
    mask[2:5, 3:7, 2:6] = 1
    return mask


def orthogonal_field(labels):
    """One unit vector of its own for each label, in cells of any length."""
    features = np.eye(labels.max() + 2, dtype=np.float32)[labels].transpose(3, 0, 1, 2)
    return features * RNG.uniform(0.5, 2, labels.shape).astype(np.float32)


def test_a_field_that_is_the_mask_has_dice_1():
    labels = blob()
    for centre in ("grid", "lesion"):
        prediction = segment_by_centre(orthogonal_field(labels), labels, centre=centre).prediction
        np.testing.assert_array_equal(prediction, labels)
    labels[0] = 2
    labels[1, :4] = 5
    np.testing.assert_array_equal(segment_by_prototypes(orthogonal_field(labels), labels).prediction, labels)


def test_the_centre_of_the_lesion_is_in_the_lesion():
    """The middle of a C is not in the C: there the two ways to take the centre differ."""
    labels = blob()
    labels[2:5, 4:6, 4:] = 0
    features = orthogonal_field(labels)
    assert labels[3, 4, 4] == 0
    np.testing.assert_array_equal(segment_by_centre(features, labels, centre="grid").prediction, 1 - labels)
    np.testing.assert_array_equal(segment_by_centre(features, labels, centre="lesion").prediction, labels)


def test_the_threshold_is_on_the_scaled_map():
    """Cosines 0.8 to 1 are 0 to 1 on the map, whatever the lengths of the features."""
    cosines = np.linspace(0.8, 1, 7)
    features = np.stack([cosines, np.sqrt(1 - cosines**2)]).astype(np.float32)[:, None, None, np.r_[0:3, 6, 3:6]]
    segmentation = segment_by_centre(features * 3, np.ones((1, 1, 7)), threshold=0.6)
    np.testing.assert_allclose(segmentation.map_of(1)[0, 0], np.array([0, 1, 2, 6, 3, 4, 5]) / 6, atol=1e-6)
    np.testing.assert_array_equal(segmentation.prediction[0, 0], [0, 0, 0, 1, 0, 1, 1])


def test_a_class_that_is_lost_on_the_cells_never_wins():
    """Not even background, where no other class is less unlike."""
    labels = np.ones((1, 2, 8), np.int32)
    labels[0, 1, 7] = 0
    features = np.zeros((2, 1, 1, 2), np.float32)
    features[:, 0, 0] = [[1, -2], [0, 0]]  # they point away from each other, and the mean is that of the second
    segmentation = segment_by_prototypes(features, labels)
    assert list(segmentation.similarity) == [1]
    assert segmentation.similarity[1].min() == -1
    assert (segmentation.prediction == 1).all()


def test_where_labels_tie_the_lower_one_wins():
    """As torch's argmax has it: features that are all alike say background."""
    assert not segment_by_prototypes(np.ones((4, 6, 9, 8), np.float32), blob()).prediction.any()


def test_features_without_a_direction_are_like_nothing():
    features = np.zeros((3, 2, 2, 2), np.float32)
    features[:, 0] = 1
    assert (cosine_similarity(features, features[:, 0, 0, 0])[1] == 0).all()
    assert (cosine_similarity(features, np.zeros(3, np.float32)) == 0).all()
    assert np.isfinite(segment_by_centre(features * 0, np.ones((2, 2, 2))).map_of(1)).all()


sizes = st.tuples(st.integers(1, 6), st.integers(1, 8))


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes)
def test_grids_of_equal_extent_are_torchs(depth, rows, columns):
    """Up and down, for strides that are whole and that are not."""
    cells = tuple(n for n, _ in (depth, rows, columns))
    voxels = tuple(n * step + (n > 1) * (step % 2) for n, step in (depth, rows, columns))
    grid = CellGrid.of_equal_extent(cells, voxels)
    values = np.random.default_rng(0).normal(size=cells).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(values)[None, None], voxels, mode="trilinear", align_corners=False)
    np.testing.assert_allclose(grid.upsample(values), expected[0, 0].numpy(), atol=1e-5)
    labels = np.random.default_rng(0).integers(0, 9, voxels).astype(np.int32)
    for nearest, mode in (("corner", "nearest"), ("centre", "nearest-exact")):
        at_cells = F.interpolate(torch.from_numpy(labels)[None, None].float(), cells, mode=mode)
        np.testing.assert_array_equal(grid.labels_on_cells(labels, nearest), at_cells[0, 0].numpy())


@pytest.mark.parametrize("patch", [2, 14, 16])
def test_a_vits_cells_are_a_grid_of_equal_extent(patch):
    """Of a scan of whole patches, placed by stride and offset as a store records them."""
    cells, voxels = (5, 4, 3), (5, 4 * patch, 3 * patch)
    placed = CellGrid(cells, voxels, (1, patch, patch), (0, (patch - 1) / 2, (patch - 1) / 2))
    values = RNG.normal(size=cells).astype(np.float32)
    shared = CellGrid.of_equal_extent(cells, voxels)
    np.testing.assert_allclose(placed.upsample(values), shared.upsample(values), atol=1e-6)


def test_cells_that_are_not_centred_on_their_block_and_a_scan_that_ends_within_one():
    """A ramp sampled at the cells is the ramp again, between the first cell and the last."""
    grid = CellGrid((3, 4, 3), (3, 62, 50), (1, 16, 16), (0, 7.5, 15))
    d, h, w = np.meshgrid(*(offset + stride * np.arange(n) for n, _, stride, offset in grid._axes()), indexing="ij")
    at = np.meshgrid(*map(np.arange, grid.voxels), indexing="ij")
    clipped = [np.clip(axis, values.min(), values.max()) for axis, values in zip(at, (d, h, w), strict=True)]
    ramp = 2 * clipped[0] - 0.5 * clipped[1] + 0.25 * clipped[2]
    upsampled = grid.upsample((2 * d - 0.5 * h + 0.25 * w).astype(np.float32))
    np.testing.assert_allclose(upsampled, ramp, atol=1e-4)
    for cell in np.ndindex(grid.cells):
        centre = (d[cell], h[cell], w[cell])
        assert grid.cell_at([int(np.floor(value)) for value in centre]) == cell
    assert grid.cell_at((2, 61, 49)) == (2, 3, 2)
    assert grid.cell_at((0, 0, 0)) == (0, 0, 0)
    columns = np.broadcast_to(np.arange(50, dtype=np.int32), grid.voxels)
    assert grid.labels_on_cells(columns)[0, 0].tolist() == [15, 31, 47]
    assert grid.labels_on_cells(columns, "corner")[0, 0].tolist() == [7, 23, 39]

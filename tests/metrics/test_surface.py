"""Surface distances: where the answer is known, and and as all pairs, SimpleITK and MONAI have them."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.distance import cdist

from featlift.evaluation import surface_distances

SPACING = (2.5, 0.5, 0.8)


def box(*bounds, shape=(20, 24, 22)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(low, high) for low, high in bounds)] = True
    return mask


def surface(mask):
    """Voxels with a face neighbour outside, found by shifting."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(3):
        for step in (-1, 1):
            inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return mask & ~inside


def distances(one, other, spacing):
    """From each voxel of the surface of one to that of the other, all pairs measured."""
    places = [np.argwhere(surface(mask)) * spacing for mask in (one, other)]
    return cdist(*places).min(axis=1)


@pytest.mark.parametrize(("axis", "shift"), [(0, 2), (1, 5), (2, 4)])
def test_boxes_some_millimetres_apart(axis, shift):
    """The faces across the shift are that far from each other, and more than 5 % of the surface are they."""
    bounds = [(4, 12), (4, 14), (4, 14)]
    moved = [(low + shift * (n == axis), high + shift * (n == axis)) for n, (low, high) in enumerate(bounds)]
    found = surface_distances(box(*bounds), box(*moved), SPACING)
    assert found.hd95 == pytest.approx(shift * SPACING[axis])
    assert 0 < found.asd < found.hd95


def test_single_voxels():
    found = surface_distances(box((3, 4), (3, 4), (3, 4)), box((4, 5), (5, 6), (6, 7)), SPACING)
    expected = math.hypot(1 * 2.5, 2 * 0.5, 3 * 0.8)
    assert (found.hd95, found.asd) == (pytest.approx(expected), pytest.approx(expected))


def test_what_is_the_same_is_no_distance_away():
    mask = box((0, 20), (3, 9), (0, 4))  # at the edge of the volume, which is outside
    assert surface_distances(mask, mask, SPACING) == surface_distances(mask[:, 2:], mask[:, 2:], SPACING)
    assert surface_distances(mask, mask, SPACING).hd95 == surface_distances(mask, mask, SPACING).asd == 0


def test_nothing_predicted_and_nothing_there():
    mask = box((3, 9), (3, 9), (3, 9))
    nothing = np.zeros_like(mask)
    for found in (surface_distances(nothing, mask, SPACING), surface_distances(mask, nothing, SPACING)):
        assert found.hd95 == found.asd == math.inf
    neither = surface_distances(nothing, nothing, SPACING)
    assert math.isnan(neither.hd95)
    assert math.isnan(neither.asd)


def blobs(seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(14, 15, 16))
    smooth = sum(np.roll(noise, step, axis) for axis in range(3) for step in (-2, -1, 0, 1, 2))
    mask = np.zeros((20, 24, 22), bool)
    mask[3:17, 4:19, 3:19] = smooth > np.quantile(smooth, rng.uniform(0.5, 0.95))
    return mask


@pytest.mark.parametrize("seed", range(4))
def test_the_definition_by_all_pairs(seed):
    """HD95 is the larger of two percentiles, not that of all distances, as in MedPy; ASD is the mean of all."""
    one, other = blobs(seed), blobs(seed + 10)
    there, back = distances(one, other, SPACING), distances(other, one, SPACING)
    found = surface_distances(one, other, SPACING)
    assert found.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert found.asd == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)
    turned = surface_distances(other, one, SPACING)
    assert (turned.hd95, turned.asd) == (found.hd95, pytest.approx(found.asd))


@pytest.mark.parametrize("seed", range(3))
def test_simpleitks_contours_and_distance_maps_say_the_same(seed):
    one, other = blobs(seed), blobs(seed + 20)

    def contour(mask):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(SPACING[::-1])
        return sitk.BinaryContour(image, fullyConnected=False)

    def directed(first, second):
        away = sitk.SignedMaurerDistanceMap(second, squaredDistance=False, useImageSpacing=True, insideIsPositive=False)
        return np.abs(sitk.GetArrayFromImage(away))[sitk.GetArrayFromImage(first) > 0]

    contours = contour(one), contour(other)
    there, back = directed(*contours), directed(*contours[::-1])
    found = surface_distances(one, other, SPACING)
    assert found.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-4)
    assert found.asd == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_monai_says_the_same():
    metrics = pytest.importorskip("monai.metrics", reason="MONAI is not installed")
    for seed in range(4):
        one, other = blobs(seed), blobs(seed + 30)
        given = {"y_pred": one[None, None], "y": other[None, None], "include_background": True, "spacing": SPACING}
        found = surface_distances(one, other, SPACING)
        assert found.hd95 == pytest.approx(float(metrics.compute_hausdorff_distance(percentile=95, **given)), rel=1e-5)
        assert found.asd == pytest.approx(float(metrics.compute_average_surface_distance(symmetric=True, **given)), rel=1e-5)  # fmt: skip  # noqa: E501

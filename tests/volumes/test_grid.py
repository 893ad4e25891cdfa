"""Spacing, size and padding: the arithmetic, and that resampling leaves everything in its place."""

from __future__ import annotations

import numpy as np
import pytest

from featlift.errors import VolumeError
from featlift.volumes.grid import cells_within, on_grid, pad, padding_to, resample, target_shape
from featlift.volumes.reading import read
from featlift.volumes.volume import scaled
from tests.support.files import OBLIQUE

SHAPE = (24, 30, 36)
SLOPE = np.array([3.0, -2.0, 1.5])


def world(affine, shape):
    """The place of every voxel."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


def ramp(affine, shape):
    return (world(affine, shape) @ SLOPE)[None].astype(np.float32)


@pytest.mark.parametrize(
    "shape",
    [
        *((48, 60, 72), (12, 15, 18), (31, 47, 51), (7, 11, 13)),
        *((25, 30, 36), (24, 31, 36), (24, 30, 37), (5, 30, 36), (24, 6, 36), (24, 30, 6)),
        *((40, 10, 36), (8, 90, 36)),
    ],
    ids=str,
)
def test_a_ramp_in_the_patient_stays_that_ramp(shape):
    """Weights for a size that is no divisor are not quite symmetric, which moves no voxel by a fiftieth of its size."""
    before = ramp(OBLIQUE, SHAPE)
    after, affine = resample(before, OBLIQUE, shape)
    assert after.shape == (1, *shape)
    assert after.dtype == np.float32
    inside = (0, *(slice(2, -2) if new <= old else slice(2 * -(-new // old), -2 * -(-new // old)) for new, old in
                   zip(shape, SHAPE, strict=True)))  # fmt: skip
    error = np.abs(after - ramp(affine, shape))[inside]
    assert error.size
    assert error.max() < 0.02 * np.abs(SLOPE @ affine[:3, :3]).sum()


@pytest.mark.parametrize("shape", [(48, 60, 72), (12, 15, 18), (7, 11, 13), (1, 1, 1)], ids=str)
def test_the_field_of_view_stays(shape):
    """The outer edges of the first and last voxels, half a voxel beyond their centres."""
    _, affine = resample(ramp(OBLIQUE, SHAPE), OBLIQUE, shape)
    for before, after in [((-0.5,) * 3, (-0.5,) * 3), (np.array(SHAPE) - 0.5, np.array(shape) - 0.5)]:
        np.testing.assert_allclose(affine @ (*after, 1), OBLIQUE @ (*before, 1), atol=1e-9)


def test_channels_are_resampled_alike_and_an_unknown_affine_stays_unknown():
    image = np.random.default_rng(0).random((3, 8, 9, 10), np.float32)
    after, affine = resample(image, None, (4, 12, 7))
    assert affine is None
    for channel, want in zip(image, after, strict=True):
        np.testing.assert_array_equal(resample(channel[None], None, (4, 12, 7))[0][0], want)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shrinking_averages_rather_than_picks(axis):
    """Of every four slices one is bright."""
    image = (np.indices((16, 16, 16))[axis] % 4 == 0).astype(np.float32)[None]
    after, _ = resample(image, None, (4, 4, 4))
    np.testing.assert_allclose(after.take([1, 2], axis + 1), 0.25, atol=1e-3)


def test_values_stay_within_their_range():
    image = (np.random.default_rng(0).random((1, 20, 21, 22)) > 0.5).astype(np.float32)
    for shape in ((7, 40, 13), (33, 9, 22)):
        after, _ = resample(image, None, shape)
        assert after.min() >= -1e-6
        assert after.max() <= 1 + 1e-6


def test_nothing_to_do_costs_nothing():
    image = ramp(OBLIQUE, SHAPE)
    after, affine = resample(image, OBLIQUE, SHAPE)
    assert after is image
    assert affine is OBLIQUE


@pytest.mark.parametrize(
    ("spacing", "size", "want"),
    [
        ((), (), (20, 100, 200)),
        ((1.0, 1.0, 1.0), (), (60, 50, 100)),
        ((0.0, 0.0, 0.0), (), (20, 100, 200)),
        ((0.0, 1.0, 1.0), (), (20, 50, 100)),
        ((1.5, 0.0, 0.25), (), (40, 100, 400)),
        ((999.0, 999.0, 999.0), (), (1, 1, 1)),
        ((), (50,), (20, 25, 50)),
        ((), (1,), (20, 1, 1)),
        ((), (64, 32), (20, 64, 32)),
        ((), (64, 0), (20, 64, 200)),
        ((), (0, 64), (20, 100, 64)),
        ((), (5, 64, 32), (5, 64, 32)),
        ((), (5, 0, 0), (5, 100, 200)),
        ((), (0, 0, 0), (20, 100, 200)),
        ((1.0, 1.0, 1.0), (0, 64, 64), (60, 64, 64)),
        ((1.0, 1.0, 1.0), (50,), (60, 25, 50)),
    ],
)
def test_shapes_by_hand(spacing, size, want):
    """Voxels of 3 x 0.5 x 0.5 mm."""
    affine = OBLIQUE @ np.diag([1, 0.5 / 0.9, 0.5 / 0.7, 1])
    assert target_shape((20, 100, 200), affine, spacing, size) == want


def test_a_spacing_needs_a_spacing():
    with pytest.raises(VolumeError, match="use --size"):
        target_shape((20, 100, 200), None, (1.0, 1.0, 1.0), ())
    assert target_shape((20, 100, 200), None, (), (50,)) == (20, 25, 50)


def test_scaled_affine_by_hand():
    np.testing.assert_array_equal(
        scaled(np.diag([3.0, 2, 1, 1]), (1, 16, 16), (0, 7.5, 7.5)),
        [[3, 0, 0, 0], [0, 32, 0, 15], [0, 0, 16, 7.5], [0, 0, 0, 1]],
    )


@pytest.mark.parametrize(
    ("shape", "multiple", "want"),
    [
        ((9, 32, 48), (1, 16, 16), (0, 0, 0)),
        ((9, 33, 47), (1, 16, 16), (0, 15, 1)),
        ((9, 1, 1), (1, 14, 14), (0, 13, 13)),
        ((9, 5, 7), (1, 1, 1), (0, 0, 0)),
        ((9, 5, 7), (4, 2, 8), (3, 1, 1)),
    ],
)
def test_padding_to_whole_patches(shape, multiple, want):
    assert padding_to(shape, multiple) == want


def test_padding_continues_the_edge():
    image = np.arange(2 * 2 * 2 * 3, dtype=np.float32).reshape(2, 2, 2, 3)
    assert pad(image, (0, 0, 0)) is image
    padded = pad(image, (1, 2, 1))
    assert padded.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(padded[:, 2], padded[:, 1])
    padded = padded[:, :2]
    np.testing.assert_array_equal(padded[:, :, :2, :3], image)
    np.testing.assert_array_equal(padded[0, 0], [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])


@pytest.mark.parametrize(
    ("size", "stride", "offset", "want"),
    [
        (32, 16, 7.5, 2),
        (40, 16, 7.5, 3),  # half a patch: its centre is the last voxel's edge
        (39, 16, 7.5, 2),
        (3, 16, 7.5, 1),  # never none
        (36, 16, 0, 3),  # a ResNet's cell 2 is centred on voxel 32
        (48, 32, 31, 1),  # TF-SAME: cell 1 on voxel 63
        (64, 32, 31, 2),
    ],
)
def test_cells_within(size, stride, offset, want):
    assert cells_within(size, stride, offset) == want


FLIPPED = OBLIQUE @ np.array([[-1, 0, 0, 6], [0, 1, 0, 0], [0, 0, -1, 8], [0, 0, 0, 1.0]])
FINER = {
    "thrice as fine": (np.diag([3, 3, 3, 1.0]), (-1 / 3, -1 / 3, -1 / 3)),
    "as it is": (np.eye(4), (0, 0, 0)),
    "half a voxel further": (np.eye(4), (0.5, 0.5, 0.5)),
    "turned": (np.eye(4)[[1, 2, 0, 3]] * 2, (0.1, 0.2, -0.3)),
}


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("affine", [OBLIQUE, FLIPPED], ids=["oblique", "flipped"])
@pytest.mark.parametrize("grid", FINER)
def test_ones_are_ones_up_to_the_edges_of_the_outermost_voxels_and_nothing_beyond(grid, affine, order):
    scale, offset = FINER[grid]
    to_array = np.linalg.inv(scale)
    to_array[:3, 3] = np.array(offset) - 2 * np.abs(to_array[:3, :3]).sum(axis=1)  # two voxels before the first
    shape, of = (30, 32, 34), (7, 8, 9)
    at = world(to_array, shape)
    values = on_grid(np.ones(of, np.float32), affine, shape, affine @ to_array, order, fill_value=-5)
    inside = ((at > -0.499) & (at < np.array(of) - 0.501)).all(axis=-1)
    outside = ((at < -0.502) | (at > np.array(of) - 0.498)).any(axis=-1)
    assert inside.any()
    assert outside.any()
    assert (values[inside] == 1).all()
    assert (values[outside] == -5).all()


def test_a_voxel_centred_on_the_edge_is_inside_whichever_way_a_header_is_rounded():
    """Every second slice of ten was kept: the tenth lies half a step beyond the fifth."""
    values = np.arange(5, dtype=np.float32)[:, None, None]
    for rounding in (-1e-6, 0, 1e-6):
        onto = OBLIQUE @ np.diag([0.5 + rounding, 1, 1, 1])
        np.testing.assert_allclose(on_grid(values, OBLIQUE, (10, 1, 1), onto, 0, fill_value=-5)[-1], 4)
        np.testing.assert_allclose(on_grid(values, OBLIQUE, (10, 1, 1), onto, 1, fill_value=-5)[-1], 4)


def test_real_structures_that_reach_the_edge_keep_their_outermost_voxels(shared):
    """Masks cut through their structure, averaged to blocks of 4 x 4 as a head sees them, and brought back."""
    found, there = 0, 0
    for path in sorted((shared / "hippocampus/labels").glob("*.nii.gz"))[:12]:
        mask = read(path)
        voxels = np.argwhere(mask.array)
        low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
        quarter = (high - low) // 4
        cut = mask.array[tuple(slice(a + n, b - n) for a, b, n in zip(low, high, quarter, strict=True))] > 0
        d, h, w = cut.shape[0], cut.shape[1] // 4, cut.shape[2] // 4
        cut = cut[:, : 4 * h, : 4 * w]
        chances = cut.reshape(d, h, 4, w, 4).mean(axis=(2, 4), dtype=np.float32)
        blocks = scaled(mask.affine, (1, 4, 4), (0, 1.5, 1.5))
        of_structure = on_grid(chances, blocks, cut.shape, mask.affine, order=1)
        of_rest = on_grid(1 - chances, blocks, cut.shape, mask.affine, order=1, fill_value=1)
        rim = np.ones(cut.shape, bool)
        rim[:, 1:-1, 1:-1] = False
        found += np.count_nonzero((of_structure > of_rest) & cut & rim)
        there += np.count_nonzero(cut & rim)
    assert there > 1000
    assert found / there > 0.85  # 0.67 where chances fade into the background beyond

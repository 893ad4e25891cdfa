"""Where cells and predicted voxels lie in a scan."""

from types import SimpleNamespace

import numpy as np
import pytest

from featlift import find_masks, open_store
from featlift.errors import OptionError
from featlift.segmentation.data.cases import CaseReader, interpolated, scan_under
from featlift.segmentation.data.frame import Frame, check_step, step_for
from featlift.volumes.regions import Box


def layer_of(stride=(1, 16, 16), offset=(0, 15.0, 15.0), valid=(4, 14, 9)):
    return SimpleNamespace(stride=stride, offset=offset, valid_cells=valid)


@pytest.mark.parametrize("offset", [7.5, 15.0, 7.0, 9.5, 9.0, -3.0])
@pytest.mark.parametrize("step", [16, 8, 4, 2, 1])
def test_the_frame_covers_the_scan_and_keeps_the_cells_where_they_are(offset, step):
    layer = layer_of(offset=(0, offset, offset))
    frame = Frame.of(layer, (4, 224, 154), step)
    assert all(start <= 0 for start in frame.start)
    ends = [start + cells * stride for start, cells, stride in zip(frame.start, frame.cells, frame.stride, strict=True)]
    assert all(end >= size for end, size in zip(ends, frame.voxels, strict=True))
    centres = frame.centres(Box((0, 0, 0), frame.cells))
    for at, lead, first, stride in zip(centres, frame.lead, layer.offset, layer.stride, strict=True):
        assert at[lead] == first  # the layer's first cell
        assert set(np.diff(at)) <= {stride}
    # a cell is centred on the predicted voxels that it is divided into, up to the half voxel that is rounded down
    _, h, _ = frame.ratio
    fine = frame.grid.offset[1] + frame.grid.stride[1] * np.arange(frame.fine[1])
    shift = centres[1] - fine.reshape(-1, h).mean(axis=1)
    assert set(shift) <= {0.0, 0.5}


def test_features_at_the_cells_own_centres_are_the_features_and_between_them_linear():
    dense = np.random.default_rng(0).normal(size=(3, 4, 15, 10)).astype(np.float32)
    layer = layer_of()
    frame = Frame.of(layer, (4, 224, 154), 4)
    d, h, w = frame.lead
    found = interpolated(dense, layer, frame.centres(Box((d, h, w), (4, 14, 9))))
    np.testing.assert_array_equal(found, dense[:, :, :14, :9])
    before = interpolated(dense, layer, frame.centres(Box((0, 0, 0), (1, h + 1, w + 1))))
    assert h == w == 1
    np.testing.assert_array_equal(before[:, 0, 0], before[:, 0, 1])  # beyond the first cell: the first
    ramp = np.broadcast_to(15 + 16 * np.arange(15, dtype=np.float32)[None, None, :, None], (1, 4, 15, 10))
    at = [np.array([0.5]), np.array([15.0, 19.0, 40.5]), np.array([15.0])]
    np.testing.assert_allclose(interpolated(ramp, layer, at)[0, 0, :, 0], [15, 19, 40.5], rtol=1e-6)
    beyond = interpolated(ramp, layer, [np.array([0.0]), np.array([500.0]), np.array([0.0])])
    assert beyond[0, 0, 0, 0] == 15 + 16 * 13  # the last cell that is scan, not the padded one


def test_a_map_of_places_upsampled_to_the_scan_gives_the_places():
    frame = Frame.of(layer_of(), (4, 224, 154), 4)
    grid = frame.grid
    rows = (grid.offset[1] + grid.stride[1] * np.arange(frame.fine[1])).astype(np.float32)
    upsampled = grid.upsample(np.broadcast_to(rows[None, :, None], frame.fine).astype(np.float32))
    inner = slice(4, -4)
    np.testing.assert_allclose(upsampled[0, inner, 0], np.arange(224)[inner], atol=1e-3)
    assert frame.inside.shape == frame.fine
    assert frame.inside[:, (rows >= 0) & (rows <= 223)].any()
    assert not frame.inside[:, rows < -0.5].any()


def test_the_scan_is_averaged_over_what_a_predicted_voxel_stands_for(cohort):
    case = open_store(cohort / "features.zarr")["a"]
    frame = Frame.of(case, case.scan_shape, 2)
    scan = np.asarray(case.scan[:], np.float32)
    found = scan_under(case, frame, Box((1, 2, 3), (2, 4, 5)))
    expected = scan[1:3, 4:12, 6:16].reshape(2, 4, 2, 5, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_a_kept_case_and_one_that_is_read_are_the_same_up_to_float16(cohort):
    store = open_store(cohort / "features.zarr")
    box = Box((2, 1, 3), (4, 5, 6))
    for source in ("store", "random"):
        masks = find_masks(store, cohort / "labels")
        reader = CaseReader(store, ("dense", "slice_mean", "scan"), (0,), source, 2, (0, 1, 2), masks)
        read, classes = reader.read("b", box), reader.classes("b")
        reader.keep("b")
        kept = reader.read("b", box)
        np.testing.assert_array_equal(reader.classes("b"), classes)
        assert reader.bytes_of("b") == _bytes(reader.read("b")) // 2 + classes.nbytes
        for name in ("features", "slices", "scan", "depth"):
            assert getattr(read, name).shape == getattr(kept, name).shape
            np.testing.assert_allclose(getattr(read, name), getattr(kept, name), rtol=1e-3, atol=1e-3)


def _bytes(batch):
    """Without the slices, which are next to nothing."""
    return batch.features.nbytes + batch.scan.nbytes


def test_random_features_are_gaussian_and_another_draw_for_each_case(cohort):
    reader = CaseReader(open_store(cohort / "features.zarr"), ("dense",), (0,), "random", 2)
    a, again, b = (reader.read(name).features for name in "aab")
    assert (a == again).all()
    assert abs(float(a.mean())) < 0.05
    assert abs(float(a.std()) - 1) < 0.05
    assert abs(float((a * b).mean())) < 0.05


def test_steps_follow_the_masks_and_divide_the_cells():
    assert [step_for((1, 16, 16), enlarged) for enlarged in (1.0, 1.3, 2.1, 3.9, 4.4, 8.0, 20)] == [
        1,
        1,
        2,
        4,
        4,
        8,
        16,
    ]
    assert step_for((1, 14, 14), 1.0) == 7
    assert [check_step((1, 16, 16), step) for step in (16, 8, 1)] == [1, 2, 16]
    assert [check_step((1, 14, 14), step) for step in (14, 7, 2, 1)] == [1, 2, 7, 14]
    for step in (3, 32, 0):
        with pytest.raises(OptionError, match="16, 8, 4, 2, 1"):
            check_step((1, 16, 16), step)


def test_layers_of_two_strides_meet_in_the_patient(featlift, cohort):
    """Of a CNN, whose cells of stride 8 and 16 are centred elsewhere: each feature is its place's in millimetres."""
    arguments = ("--model", "efficientnet-lite0", "--mode", "2d", "--layers", "stride8,stride16", "--size", "72")
    done = featlift("extract", cohort / "scans/a.nii.gz", "-o", "two.zarr", *arguments, "--weights", "random:0")
    assert done.returncode == 0, done.stderr
    store = open_store("two.zarr")
    (case,) = store.values()
    fine, coarse = case.layers.values()
    assert (fine.stride[1], coarse.stride[1]) == (8, 16)
    reader = CaseReader(store, ("dense",), tuple(case.layers), "store", 4)
    features = reader.read(case.id).features[0].numpy()
    frame = reader.frame(case)
    assert features.shape == (fine.dense.shape[0] + coarse.dense.shape[0], *frame.cells)
    centres = np.stack(np.meshgrid(*frame.centres(Box((0, 0, 0), frame.cells)), indexing="ij"), axis=-1).reshape(-1, 3)
    millimetres = (case.scan_affine @ np.column_stack([centres, np.ones(len(centres))]).T)[:3].T
    inner = np.ones(len(centres), bool)  # `sample` knows padded cells, which heads do not look at
    for layer in (fine, coarse):
        last = layer.offset + np.multiply(layer.stride, np.array(layer.valid_cells) - 1)
        inner &= (centres <= last).all(axis=1)
    assert inner.sum() > 100
    expected = np.concatenate([layer.sample(millimetres[inner]) for layer in (fine, coarse)], axis=1)
    np.testing.assert_allclose(features.reshape(len(features), -1).T[inner], expected, rtol=1e-3, atol=1e-3)

"""Masks of instances in `featlift pca` and `view`: colours by the id alone, splits and merges, what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from skimage.color import rgb2lab

from featlift import open_store
from featlift.errors import VolumeError
from featlift.pictures.instances import FOUND, TRUE, InstanceFiles, InstanceMap, Segmented, colours_of
from featlift.volumes.instance_files import write_instances
from featlift.volumes.instances import Instances
from featlift.volumes.nifti import write_nifti
from tests.support.neuropil import NEURONS, RAW, neuropil
from tests.support.planted import AFFINE, SHAPE, plant
from tests.support.scans import patch_mean_options

FIRST_ID = 2**60  # which float64 cannot tell from the next
LAST = SHAPE[2] - 1


@pytest.fixture
def store(tmp_path):
    return plant(tmp_path / "s.zarr")


def strips(*ids):
    """A mask of planted cases with strips of these ids, from left to right."""
    return np.broadcast_to(np.repeat(np.array(ids, np.uint64), SHAPE[2] // len(ids)), SHAPE)


def written(path, array, affine=AFFINE):
    path.parent.mkdir(exist_ok=True)
    return write_instances(path, Instances(np.ascontiguousarray(array), affine))


def test_a_colour_is_that_of_the_id_alone():
    ids = np.array([1, 2, 3, 2**24, 2**24 + 1, 2**53, 2**53 + 1, 2**63, 2**64 - 2], np.uint64)
    colours = colours_of(ids)
    for n, one in enumerate(ids):
        np.testing.assert_array_equal(colours_of(np.array([7, one, 9], np.uint64))[1], colours[n])
    assert len(np.unique(colours, axis=0)) == len(ids)
    # of the first release: pictures of a paper are to keep their colours
    assert [bytes(colour).hex() for colour in colours[[0, 1, 2, 6]]] == ["00bdeb", "9b7701", "ba92f9", "c75c35"]


def test_objects_that_touch_can_be_told_apart():
    """By more than 10 in CIELAB: ids that follow one another always, others nearly always."""
    for first in (1, 2**32, FIRST_ID):
        lab = rgb2lab(colours_of(np.arange(2000, dtype=np.uint64) + np.uint64(first)) / 255.0)
        assert np.linalg.norm(np.diff(lab, axis=0), axis=1).min() > 60
        assert (lab[:, 0] > 40).all()  # none as dark as a background
        labels = neuropil(1, (8, 64, 64), first_id=first).labels
        touching = np.unique(np.stack([labels[:, :, 1:].ravel(), labels[:, :, :-1].ravel()]), axis=1)
        one, other = (rgb2lab(colours_of(ids) / 255.0) for ids in touching[:, touching[0] != touching[1]])
        assert (np.linalg.norm(one - other, axis=1) > 10).mean() > 0.95


def test_objects_lie_where_their_affine_says_and_nothing_is_transparent(store, tmp_path):
    case = store["one"]
    ids = strips(2**53, 0, 2**53 + 1, 2**64 - 1, 5)
    found = InstanceMap.of(case, written(tmp_path / "mask.nii.gz", ids))
    assert found.ids.tolist() == [5, 2**53, 2**53 + 1]  # exact, without what is no object
    assert found.numbers[0, 0, [0, 8, 16, 24, LAST]].tolist() == [2, 0, 3, 0, 1]
    assert found.colours[:, 3].tolist() == [0, 255, 255, 255]
    flipped = AFFINE.copy()
    flipped[:3, 3] += LAST * AFFINE[:3, 2]
    flipped[:3, 2] *= -1
    again = InstanceMap.of(case, written(tmp_path / "flipped.nii.gz", ids[..., ::-1], flipped))
    np.testing.assert_array_equal(again.numbers, found.numbers)
    half = InstanceMap.of(case, written(tmp_path / "half.nii.gz", ids[..., :20]))  # placed, not refused
    assert (half.numbers[..., 20:] == 0).all()
    assert half.count == 2


def test_bad_masks_are_one_line(featlift, store, tmp_path):
    bad = {
        "other.nii.gz": (strips(1, 2)[..., :39], None, "labels of 6 x 32 x 39 voxels, a scan of 6 x 32 x 40"),
        "away.nii.gz": (strips(1, 2), AFFINE + 1e4 * np.eye(4, k=3), "without an object in the scan"),
        "empty.nii.gz": (strips(0, 2**64 - 1), AFFINE, "without an object in the scan"),
    }
    for name, (array, affine, says) in bad.items():
        with pytest.raises(VolumeError, match=says):
            InstanceMap.of(store["one"], written(tmp_path / name, array, affine))
    (tmp_path / "floats").mkdir()
    write_nifti(tmp_path / "floats" / "one.nii.gz", np.ones(SHAPE, np.float32), AFFINE)
    for command in ("pca", "view"):
        done = featlift(command, store.path, "--case", "one", "--instances", "floats")
        assert done.returncode != 0
        assert done.stderr.count("no ids of objects: its voxels are float32") == 1
        done = featlift(command, store.path, "--true-instances", "floats")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "--instances" in done.stderr


def test_a_picture_shows_colours_outlines_and_counts(featlift, store, tmp_path):
    """An object that is split and two that are merged, in cases of their own ids; the second has no truth."""
    for case_id in store:
        written(tmp_path / "found" / f"{case_id}.h5", strips(1, 2, 9, 9), None)
    written(tmp_path / "true" / "one.h5", strips(1, 1, 3, 4), None)
    segmented = Segmented.of(store["one"], InstanceFiles(tmp_path / "found" / "one.h5", tmp_path / "true" / "one.h5"))
    marked = [each.map.ids[each.numbers - 1].tolist() for each in segmented.marked]
    assert marked == [[1], [9]]
    done = featlift("pca", store.path, "--instances", "found", "--true-instances", "true", "--formats", "svg")
    assert done.returncode == 0, done.stderr
    assert "1 of 2 cases have no mask: two" in done.stderr
    svg = (tmp_path / "pictures" / "one.svg").read_text()
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {FOUND, TRUE, "true, split", "found, merges several"} <= set(texts)
    said = " ".join(texts)
    assert "3 instances, 1 of them merge several true ones; 1 of 3 true ones are split (parts of less than 5 %" in said
    assert svg.count("#ffe600") == 5  # in two rows, in the two planes that go through it, and in the legend
    assert svg.count("#ff2fd0") == 7
    other = (tmp_path / "pictures" / "two.svg").read_text()
    assert ">instances<" in other
    assert "true" not in re.sub("<image.*?>", "", other)


def test_neuropil_in_both(featlift, tmp_path, browse):
    """From an extracted phantom to a browser: ids to the last digit, their colours, and what is split and merged."""
    phantom = neuropil(5, (6, 48, 52), cells=10, organelles=0, first_id=FIRST_ID)
    phantom.write(tmp_path / "em.h5")
    options = [*patch_mean_options(tmp_path, 4, constant=0.5), "--mode", "2d", "--layers", "0"]
    done = featlift("extract", f"em.h5::{RAW}", "-o", "em.zarr", *options, "--intensity", "window:0,255")
    assert done.returncode == 0, done.stderr
    case = next(iter(open_store(tmp_path / "em.zarr").values()))
    truth = phantom.labels
    ids, sizes = np.unique(truth, return_counts=True)
    cut, *_, one, other = ids[np.argsort(sizes)[::-1][:6]]
    found = np.where(truth == other, one, truth)
    half = np.argwhere(truth == cut)
    half = half[len(half) // 2 :]
    found[tuple(half.T)] = ids[-1] + np.uint64(1)
    written(tmp_path / "found" / "em.h5", found, case.scan_affine)
    (tmp_path / "true.csv").write_text(f"id,path\n{case.id},em.h5::{NEURONS}\n")
    done = featlift("pca", "em.zarr", "--instances", "found", "--true-instances", "true.csv", "--formats", "svg")
    assert done.returncode == 0, done.stderr
    svg = (tmp_path / "pictures" / f"{case.id}.svg").read_text()
    assert ">50 nm<" in svg  # of 208
    assert f"1 of {len(ids)} true ones are split" in " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))

    done = featlift("view", "em.zarr", "--instances", "found", "--true-instances", "true.csv", "-o", "p.html")
    assert done.returncode == 0, done.stderr
    page = browse(tmp_path / "p.html")
    content = "viewer.content"
    marked = page(
        f"() => {content}.marked.map((m) => [...m.numbers].map((n) => {content}.instances[m.instances].ids[n]))"
    )
    assert marked == [[str(cut)], [str(one)]]
    told = page.page.locator("#marked").inner_text()
    assert f"1 of {len(ids)} true ones are split" in told
    assert "true, split" in told
    d, h, w = half[len(half) // 2].tolist()
    page("(voxel) => viewer.ask(voxel, false)", [d, h, w])
    page.page.keyboard.press("4")
    page("() => viewer.set({ outlines: false, opacity: Object.fromEntries(viewer.layers.map((name) => [name, 1])) })")
    place = page.page.locator("#place").inner_text().split()
    assert place[place.index("instances") + 1] == str(ids[-1] + np.uint64(1))
    assert str(cut) in place
    assert page("() => viewer.state.layer") == FOUND
    pixels = page("() => [...viewer.tiles[0].picture.getContext('2d').getImageData(0, 0, 52, 48).data]")
    want = colours_of(found[d].ravel()).reshape(48, 52, 3)
    np.testing.assert_array_equal(np.array(pixels).reshape(48, 52, 4)[..., :3], want)
    page.page.keyboard.press("5")
    assert page("() => viewer.state.layer") == TRUE

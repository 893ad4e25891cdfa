"""Scores of instances: scikit-image's to the last digit, CREMI's by its own formula, and what no score is given for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error
from skimage.metrics import variation_of_information as skimage_voi

from featlift.errors import VolumeError
from featlift.metrics.instances import (
    adapted_rand,
    adapted_rand_of_cremi,
    near_borders,
    overlaps,
    splits_and_merges,
    variation_of_information,
)
from tests.conftest import GOLDEN

ARRAYS = np.load(GOLDEN / "systems" / "em.npz")
SCORES = json.loads((GOLDEN / "systems" / "em.json").read_text())["scores"]
SCORED = [name for name in SCORES if f"segmentation/{name.removeprefix('reference_widened/')}" in ARRAYS]


def ids(shape: tuple[int, ...] = (3, 12, 14), most: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, shape)


@pytest.mark.parametrize("name", SCORED)
def test_scores_of_the_reference(name):
    truth = ARRAYS["labels_widened" if name.startswith("reference_widened/") else "labels"]
    found = overlaps(truth, ARRAYS[f"segmentation/{name.removeprefix('reference_widened/')}"])
    want = SCORES[name]
    assert variation_of_information(found) == pytest.approx((want["voi_split"], want["voi_merge"]), abs=1e-9)
    rand = adapted_rand(found)
    assert (rand.error, rand.recall, rand.precision) == pytest.approx(
        (want["arand"], want["precision"], want["recall"]), abs=1e-9
    )  # scikit-image's names are the other way round


def test_ids_do_not_matter():
    truth, found = ids(), ids(seed=1)
    large = np.array([0, 2**64 - 1, 2**64 - 2, 2**63 + 1, 7], np.uint64)
    assert variation_of_information(overlaps(large[truth], large[::-1][found])) == pytest.approx(
        skimage_voi(truth, found, ignore_labels=(0,)), abs=1e-12
    )
    assert adapted_rand(overlaps(large[truth], large[found])).error == pytest.approx(
        adapted_rand_error(truth, found)[0], abs=1e-12
    )


def test_splits_and_merges_are_told_apart():
    truth = np.repeat(np.arange(1, 5), 4).reshape(1, 4, 4)
    assert variation_of_information(overlaps(truth, truth)) == pytest.approx((0, 0))
    assert variation_of_information(overlaps(truth, truth // 3)) == pytest.approx((0, 1))  # pairs of equal size
    assert variation_of_information(overlaps(truth, np.arange(16).reshape(1, 4, 4) // 2)) == pytest.approx((1, 0))
    merged = adapted_rand(overlaps(truth, truth // 3))
    split = adapted_rand(overlaps(truth, np.arange(16).reshape(1, 4, 4) // 2))
    assert merged.recall == split.precision == 1
    assert merged.precision == pytest.approx(12 * 4 / (8 * 7 * 2))  # pairs in one object, of those in one segment
    assert split.recall == pytest.approx(2 * 8 / (12 * 4))


def cremi_by_loops(truth: np.ndarray, found: np.ndarray, ignored: int) -> float:
    """The formula that CREMI's code follows, voxel by voxel."""
    counts: dict[tuple[int, int], int] = {}
    for pair in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True):
        if pair[0] != ignored:
            counts[pair] = counts.get(pair, 0) + 1
    rows: dict[int, int] = {}
    columns: dict[int, int] = {}
    for (row, column), count in counts.items():
        rows[row] = rows.get(row, 0) + count
        columns[column] = columns.get(column, 0) + count
    beside = columns.pop(0, 0) / truth.size
    together = sum(count**2 for (_, column), count in counts.items() if column) + beside
    precision = together / (sum(count**2 for count in columns.values()) + beside)
    recall = together / sum(count**2 for count in rows.values())
    return 1 - 2 * precision * recall / (precision + recall)


def test_cremi_takes_segment_0_for_none():
    truth, found = ids(), ids(seed=1)
    table = overlaps(truth, found)
    assert adapted_rand_of_cremi(table).error == pytest.approx(cremi_by_loops(truth, found, 0), abs=1e-12)
    assert adapted_rand_of_cremi(table).error != pytest.approx(adapted_rand(table).error, abs=1e-3)
    without = overlaps(truth, found + 1)
    assert adapted_rand_of_cremi(without).error == pytest.approx(cremi_by_loops(truth, found + 1, 0), abs=1e-12)


def test_borders_are_those_within_a_section():
    labels = np.ones((3, 9, 9), np.uint64)
    labels[1, :, 5:] = 2**64 - 1
    near = near_borders(labels, 1)
    assert not near[[0, 2]].any()  # the label changes along depth, which does not count
    assert near[1].all(axis=0).tolist() == [False, False, False, True, True, True, True, False, False]
    found = overlaps(labels, labels, (0,), near)
    assert found.table.sum() == 3 * 81 - 36
    assert found.voxels == 3 * 81


@pytest.mark.parametrize(
    ("truth", "found", "why"),
    [
        (ids(), ids((3, 12, 13)), "a segmentation of 3 x 12 x 13 voxels, a truth of 3 x 12 x 14"),
        (ids().astype(np.float32), ids(), "the truth is float32"),
        (ids(), ids().astype(np.float64), "the segmentation is float64"),
        (np.zeros((3, 4, 5), int), np.zeros((3, 4, 5), int), "no object in the truth"),
    ],
)
def test_what_has_no_score(truth, found, why):
    with pytest.raises(VolumeError, match=why):
        overlaps(truth, found)


def test_objects_that_are_split_and_segments_that_merge():
    """By hand: 100 and 2^60 are whole but for a border, 3 is cut in two, 4 and 5 are one, 6 was not found."""
    large = 2**60
    truth = np.repeat(np.array([100, large, 3, 4, 5, 6, 0], np.uint64), 100)
    found = np.repeat(np.array([1, large + 1, 3, 4, 4, 0, 0], np.uint64), 100)
    found[100:104] = 1  # 4 % of the smaller, 2^60: a ragged border
    found[250:300] = 9
    found[600:690] = 7  # where nothing is true ...
    found[0:3] = 7  # ... but for a border with 100
    table = overlaps(truth[None, None], found[None, None], ignored=())
    split, merged = splits_and_merges(table)
    assert (split.tolist(), merged.tolist()) == ([3], [4])
    split, merged = splits_and_merges(table, least=0.03)
    assert (split.tolist(), merged.tolist()) == ([3, 100, large], [1, 4])
    same = overlaps(truth[None, None], truth[None, None], ignored=())
    assert [len(each) for each in splits_and_merges(same, least=0)] == [0, 0]


def test_what_is_split_and_merged_is_of_the_whole_not_of_single_pairs():
    """A small object within a large segment is merged with it, however small; a fragment cuts its object."""
    truth = np.repeat([1, 2], [990, 10]).reshape(1, 1, -1)
    split, merged = splits_and_merges(overlaps(truth, np.ones_like(truth), ignored=()))
    assert (split.tolist(), merged.tolist()) == ([], [1])
    split, merged = splits_and_merges(overlaps(np.ones_like(truth), truth, ignored=()))
    assert (split.tolist(), merged.tolist()) == ([1], [])

"""Affinities as the reference has them bit by bit; partitions of waterz and mwatershed as the packages give them."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from featlift.errors import OptionError, VolumeError
from featlift.metrics.instances import adapted_rand, overlaps
from featlift.segmentation.instances.affinities import (
    LONG_RANGE,
    NEIGHBOURS,
    affinities,
    class_weights,
    widened,
)
from featlift.segmentation.instances.agglomeration import agglomerate
from featlift.segmentation.instances.fragments import fragments_of
from featlift.segmentation.instances.mutex import mutex_watershed
from tests.conftest import GOLDEN

ARRAYS = dict(np.load(GOLDEN / "systems" / "em.npz"))
EXPECTED = json.loads((GOLDEN / "systems" / "em.json").read_text())
OFFSETS = [tuple(offset) for offset in EXPECTED["offsets"]]
PREDICTED = ARRAYS["predicted"]


def are_one_partition(one: np.ndarray, other: np.ndarray) -> bool:
    table = overlaps(one, other, ()).table
    return table.nnz == table.shape[0] == table.shape[1]


@pytest.mark.parametrize("widen", [False, True])
def test_affinities_bit_by_bit(widen):
    labels, name = (widened(ARRAYS["labels"]), "affinities_widened") if widen else (ARRAYS["labels"], "affinities")
    if widen:
        np.testing.assert_array_equal(labels, ARRAYS["labels_widened"])
    found = affinities(labels, OFFSETS)
    np.testing.assert_array_equal(np.packbits(found, axis=-1), ARRAYS[name])
    weights = [class_weights(affinity) for affinity in found]
    np.testing.assert_allclose(weights, EXPECTED[name]["weight_of_one_and_zero"], rtol=1e-12)
    if widen:
        error = (PREDICTED / 255 - found) ** 2
        weight = [np.where(affinity, *each) for affinity, each in zip(found, weights, strict=True)]
        np.testing.assert_allclose((error * weight).mean(axis=(1, 2, 3)), EXPECTED["weighted_mse"], rtol=1e-5)


def test_affinities_by_loops_with_offsets_of_any_sign():
    labels = np.random.default_rng(0).integers(0, 3, (3, 4, 5)).astype(np.uint64) * np.uint64(2**62)
    offsets = [(1, 0, 0), (0, -2, 3), (-2, 1, -1)]
    found = affinities(labels, offsets)
    for affinity, offset in zip(found, offsets, strict=True):
        for place in np.ndindex(labels.shape):
            there = tuple(np.add(place, offset))
            inside = all(0 <= at < size for at, size in zip(there, labels.shape, strict=True))
            assert affinity[place] == (inside and labels[place] > 0 and labels[place] == labels[there])


def test_borders_of_large_ids_are_widened():
    """Two ids that float64 cannot tell apart."""
    labels = np.full((1, 5, 7), 2**60, np.uint64)
    labels[:, :, 4:] += np.uint64(1)
    assert (widened(labels)[0] > 0).all(axis=0).tolist() == [True, True, True, False, False, True, True]
    assert (widened(labels, 2)[0] > 0).all(axis=0).tolist() == [True, True, False, False, False, False, True]


def test_presets():
    assert len(NEIGHBOURS) == 3
    assert [max(map(abs, offset)) for offset in LONG_RANGE] == [1, 1, 1, 2, 3, 3, 3, 9, 9, 4, 27, 27]
    assert LONG_RANGE[:3] == NEIGHBOURS


@pytest.mark.parametrize(
    ("name", "thresholds", "fragments", "merging"),
    [
        ("waterz_mean", [0.5], None, "mean"),
        ("waterz_q50", [0.5], None, "median"),
        ("fragments_waterz_q50", [0.3, 0.5, 0.7], "segmentation/fragments", "median"),
        ("fragments_waterz_mean", [0.5], "segmentation/fragments", "mean"),
    ],
)
def test_partitions_of_waterz(capfd, name, thresholds, fragments, merging):
    pytest.importorskip("waterz")
    given = None if fragments is None else ARRAYS[fragments].copy()
    found = list(agglomerate(PREDICTED, thresholds, given, merging))  # all kept: each is an array of its own
    assert len(found) == len(thresholds)
    for threshold, segmentation in zip(thresholds, found, strict=True):
        assert are_one_partition(segmentation, ARRAYS[f"segmentation/{name}/{threshold}"])
    if fragments is not None:
        np.testing.assert_array_equal(given, ARRAYS[fragments])
    print("shown")
    assert capfd.readouterr().out == "shown\n"  # and nothing of waterz


@pytest.mark.parametrize(("name", "bias"), [("mwatershed", 0.5), ("mwatershed_bias", [0.5] * 3 + [0.8] * 3)])
def test_partitions_of_the_mutex_watershed(name, bias):
    pytest.importorskip("mwatershed")
    assert are_one_partition(mutex_watershed(PREDICTED, OFFSETS, bias), ARRAYS[f"segmentation/{name}"])


def test_fragments_are_those_of_the_reference_but_for_ties():
    """mahotas breaks ties of the watershed otherwise: the same seeds, and nearly all voxels with the same of them."""
    found, want = fragments_of(PREDICTED), ARRAYS["segmentation/fragments"]
    assert len(np.unique(found)) == EXPECTED["scores"]["fragments"]["segments"] == found.max()
    for here, there in pairwise(found):
        assert here.max() < there.min()
    assert overlaps(want, found, ()).table.max(axis=1).sum() > 0.95 * found.size
    assert adapted_rand(overlaps(want, found, ())).error < 0.05


def test_fragments_of_sections_without_a_border_or_with_nothing_else():
    predicted = np.zeros((3, 2, 8, 9), np.float32)
    predicted[:, 1] = 1
    assert [np.unique(section).tolist() for section in fragments_of(predicted)] == [[1], [2]]


def test_widening_is_what_fragments_need():
    """Of perfect affinities: fragments leak through thin borders, and waterz's own watershed wants no others."""
    pytest.importorskip("waterz")
    labels = ARRAYS["labels"]

    def error(learnt: np.ndarray, by_section: bool) -> float:
        predicted = affinities(learnt) * np.uint8(255)
        (found,) = agglomerate(predicted, [0.5], fragments_of(predicted) if by_section else None)
        return adapted_rand(overlaps(labels, found)).error

    assert error(widened(labels), by_section=True) < 0.1
    assert error(labels, by_section=True) > 0.9
    assert error(labels, by_section=False) == 0


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: affinities(np.ones((3, 4, 5), int), [(0, 0, -5)]),
            OptionError,
            r"\(0, 0, -5\) is larger than the vol",
        ),
        (lambda: affinities(np.ones((3, 4, 5), int), [(0, 0, 0)]), OptionError, "compares a voxel with itself"),
        (lambda: affinities(np.ones((3, 4, 5))), VolumeError, "labels are float64"),
        (lambda: fragments_of(np.ones((2, 3, 4, 5))), VolumeError, "of 4 axes and 2 channels: give"),
        (lambda: fragments_of(np.full((3, 3, 4, 5), np.nan)), VolumeError, "from 0 to 1"),
        (lambda: fragments_of(np.full((3, 3, 4, 5), 200)), VolumeError, "these are int64"),
    ],
)
def test_what_cannot_be_segmented(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_settings_of_agglomeration_that_make_no_sense():
    pytest.importorskip("waterz")
    for thresholds in ([], [0.5, 0.3], [1.5]):
        with pytest.raises(OptionError, match="from 0 to 1 in increasing order"):
            agglomerate(PREDICTED, thresholds)
    with pytest.raises(OptionError, match="choose mean or median"):
        agglomerate(PREDICTED, [0.5], merging="max")
    with pytest.raises(VolumeError, match="fragments of shape"):
        agglomerate(PREDICTED, [0.5], np.ones((2, 3, 4), int))


def test_settings_of_the_mutex_watershed_that_make_no_sense():
    pytest.importorskip("mwatershed")
    with pytest.raises(OptionError, match="3 offsets for affinities of 6 channels"):
        mutex_watershed(PREDICTED, NEIGHBOURS)
    with pytest.raises(OptionError, match="2 biases for affinities of 6 channels"):
        mutex_watershed(PREDICTED, OFFSETS, [0.5, 0.8])
    with pytest.raises(OptionError, match="larger than the volume"):
        mutex_watershed(PREDICTED[:, :2], OFFSETS)


def test_without_the_extra_it_says_what_to_install():
    """In a process in which neither package can be imported."""
    code = """if True:
        import sys
        sys.modules["waterz"] = sys.modules["mwatershed"] = None
        import numpy as np
        from featlift.errors import OptionError
        from featlift.segmentation.instances.affinities import NEIGHBOURS
        from featlift.segmentation.instances.agglomeration import agglomerate
        from featlift.segmentation.instances.mutex import mutex_watershed
        predicted = np.ones((3, 2, 3, 4))
        for call in (lambda: agglomerate(predicted, [0.5]), lambda: mutex_watershed(predicted, NEIGHBOURS)):
            try:
                call()
            except OptionError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'featlift[em]'") == 2

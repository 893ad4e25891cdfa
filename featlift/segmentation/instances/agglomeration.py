"""Affinities to objects by waterz: watershed, then regions merged where affinities are high (Funke et al. 2018)."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from tempfile import TemporaryFile
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, VolumeError
from featlift.segmentation.instances.fragments import fragments_of
from featlift.segmentation.instances.likelihood import as_likelihood

#: How affinities between two regions are summed up: their mean, or their median in a histogram of 256 bins.
Merging = Literal["mean", "median"]

#: waterz's scoring function and bins of its queue; both are compiled in its wheels.
_SCORING: dict[Merging, tuple[str, int]] = {
    "mean": ("OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>", 0),
    "median": ("OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>>", 256),
}
_LOW, _HIGH = 0.1, 0.9  # affinities between which waterz's own watershed decides

_SLAB = 1 << 24  # voxels that are agglomerated at once while fragments are small: each pair of them takes memory
_BEFOREHAND = 0.5  # of the lowest threshold, up to which a slab is merged by itself


def agglomerate(
    predicted: NDArray[Any],
    thresholds: Sequence[float],
    fragments: NDArray[Any] | None = None,
    merging: Merging = "mean",
) -> Iterator[NDArray[np.uint64]]:
    """A segmentation for each threshold, one after the other: regions merge while affinities exceed 1 - threshold.

    Args:
        predicted: ``(K, D, H, W)``, affinities of `NEIGHBOURS` first: 0 to 1, or uint8 of 0 to 255.
        thresholds: from 0 to 1, in increasing order: a later segmentation merges what an earlier one left.
        fragments: ``(D, H, W)`` ids of pieces that are never split, see `fragments_of`; None lets waterz make some in
            three dimensions, for sections that are not much thicker than pixels.
        merging: how affinities between regions are summed up.

    Yields:
        ``(D, H, W)``, an array of its own each time.

    Raises:
        OptionError: waterz is not installed, or thresholds that make no sense.
        VolumeError: see `as_likelihood`, or fragments of another shape.
    """
    _check(thresholds, merging)
    if fragments is not None and fragments.shape != predicted.shape[1:]:
        raise VolumeError(f"fragments of shape {fragments.shape} for affinities of {predicted.shape}")
    own = None if fragments is None else fragments.astype(np.uint64, order="C")
    return _merged(as_likelihood(predicted[:3]), thresholds, own, merging)


def agglomerate_sections(
    predicted: NDArray[Any], thresholds: Sequence[float], merging: Merging = "mean", slab: int = _SLAB
) -> Iterator[NDArray[np.uint64]]:
    """`agglomerate` of `fragments_of`, in the memory that a large volume leaves.

    waterz keeps every affinity between two fragments in lists, which small fragments make longer than the volume. So
    fragments are made, and merged up to half of the lowest threshold, slab by slab; then all merge, across slabs too,
    with the affinities of all of their faces, which lie in a temporary file of 12 bytes a voxel, as they are read only
    once. A volume of one slab is merged at once, in memory.

    Args:
        predicted: see `agglomerate`.
        thresholds: see `agglomerate`.
        merging: see `agglomerate`.
        slab: voxels of a slab, rounded up to whole sections.

    Yields:
        ``(D, H, W)``, an array of its own each time.

    Raises:
        OptionError: see `agglomerate`.
        VolumeError: see `as_likelihood`.
    """
    _check(thresholds, merging)
    fragments = np.empty(predicted.shape[1:], np.uint64)
    sections = -(-slab // fragments[0].size)
    count = 0
    for first in range(0, len(fragments), sections):
        part = predicted[:, first : first + sections]
        found = fragments_of(part)
        if sections < len(fragments):
            (found,) = _merged(as_likelihood(part[:3]), [_BEFOREHAND * thresholds[0]], found, merging)
        ids = np.flatnonzero(np.bincount(found.ravel().view(np.int64)))
        numbers = np.zeros(int(ids[-1]) + 1, np.uint64)
        numbers[ids] = np.arange(count + 1, count + 1 + len(ids))
        fragments[first : first + sections] = numbers[found]
        count += len(ids)
    likelihood = as_likelihood(predicted[:3]) if sections >= len(fragments) else _on_disk(predicted)
    return _merged(likelihood, thresholds, fragments, merging)


def _on_disk(predicted: NDArray[Any]) -> NDArray[np.float32]:
    """`as_likelihood` in a file without a name, which is gone when nothing refers to the array any more."""
    with TemporaryFile() as file:
        found = np.memmap(file, np.float32, "w+", shape=(3, *predicted.shape[1:]))
    for depth in range(predicted.shape[1]):
        found[:, depth] = as_likelihood(predicted[:3, depth : depth + 1])[:, 0]
    return found


def _check(thresholds: Sequence[float], merging: Merging) -> None:
    if not thresholds or list(thresholds) != sorted(thresholds) or not 0 <= thresholds[0] <= thresholds[-1] <= 1:
        raise OptionError(f"thresholds {', '.join(map(str, thresholds))}: give some from 0 to 1 in increasing order")
    if merging not in _SCORING:
        raise OptionError(f"merging {merging!r}: choose {' or '.join(_SCORING)}")


def _merged(
    likelihood: NDArray[np.float32],
    thresholds: Sequence[float],
    fragments: NDArray[np.uint64] | None,
    merging: Merging,
) -> Iterator[NDArray[np.uint64]]:
    """See `agglomerate`; fragments are merged in place."""
    waterz = _waterz()
    scoring, bins = _SCORING[merging]
    with _nothing_printed():
        found = waterz.agglomerate(
            likelihood,
            list(thresholds),
            fragments=fragments,
            aff_threshold_low=_LOW,
            aff_threshold_high=_HIGH,
            scoring_function=scoring,
            discretize_queue=bins,
        )
    return _copies(found, len(thresholds))


def _copies(found: Iterator[NDArray[np.uint64]], count: int) -> Iterator[NDArray[np.uint64]]:
    """An array of its own for each: waterz yields the same one each time, with new content."""
    for number in range(1, count + 1):
        with _nothing_printed():
            segmentation = next(found)
            if number == count:
                next(found, None)  # so that it frees what it holds
        yield segmentation if number == count else segmentation.copy()


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """What waterz tells of every step, from Python and from C++, goes nowhere."""
    sys.stdout.flush()
    shown = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(shown, 1)
        os.close(shown)


def _waterz() -> Any:
    try:
        import waterz
    except ImportError as error:
        raise OptionError("agglomeration needs waterz: pip install 'featlift[em]'") from error
    return waterz

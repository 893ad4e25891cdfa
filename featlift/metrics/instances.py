"""Segmentations into objects whose ids are arbitrary: variation of information, adapted Rand error, splits and merges.

Scores by scikit-image's definitions, and as the CREMI challenge computes them. docs/reference/instance-metrics.md has
the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError

#: Of the smaller of an object and a segment, the share from which on what they have in common is no ragged border.
LEAST_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Overlaps:
    """How many voxels each object of the truth shares with each segment, those that do not count left out.

    Attributes:
        table: ``(objects, segments)``, a `scipy.sparse.csr_array` of float64.
        objects: ids of the truth.
        segments: ids of the segmentation.
        voxels: of the whole volume, those that do not count too.
    """

    table: Any
    objects: NDArray[np.uint64]
    segments: NDArray[np.uint64]
    voxels: int


@dataclass(frozen=True)
class AdaptedRand:
    """Adapted Rand error, its F-score's precision and recall of pairs of voxels; nan where there are no pairs.

    Attributes:
        error: 1 - 2 precision recall / (precision + recall).
        precision: share of the pairs in one segment that are in one object.
        recall: share of the pairs in one object that are in one segment.
    """

    error: float
    precision: float
    recall: float


def overlaps(
    truth: NDArray[Any],
    segmentation: NDArray[Any],
    ignored: Sequence[int] = (0,),
    left_out: NDArray[np.bool_] | None = None,
) -> Overlaps:
    """Count voxels by object and segment, section by section, so that a large volume needs little more memory.

    Args:
        truth: ``(D, H, W)`` whole numbers.
        segmentation: ``(D, H, W)`` whole numbers.
        ignored: ids of the truth whose voxels do not count.
        left_out: ``(D, H, W)``, other voxels that do not count, such as those of `near_borders`.

    Raises:
        VolumeError: other shapes, voxels that are no whole numbers, or no voxel that counts.
    """
    from scipy.sparse import coo_array

    if truth.shape != segmentation.shape:
        raise VolumeError(f"a segmentation of {_times(segmentation.shape)} voxels, a truth of {_times(truth.shape)}")
    for name, array in (("segmentation", segmentation), ("truth", truth)):
        if array.dtype.kind not in "biu":
            raise VolumeError(f"the {name} is {array.dtype}: ids of objects are whole numbers")
    nothing = np.array(ignored, np.uint64)
    found = []
    for number, (objects, segments) in enumerate(zip(truth, segmentation, strict=True)):
        counts = ~np.isin(objects, nothing)
        if left_out is not None:
            counts &= ~left_out[number]
        found.append(_pairs(objects[counts].astype(np.uint64), segments[counts].astype(np.uint64)))
    ones, others, shared = (np.concatenate(part) for part in zip(*found, strict=True))
    if not len(shared):
        raise VolumeError("no object in the truth: every voxel is one that does not count")
    rows, row = np.unique(ones, return_inverse=True)
    columns, column = np.unique(others, return_inverse=True)
    table = coo_array((shared, (row, column)), shape=(len(rows), len(columns))).tocsr()
    return Overlaps(table, rows, columns, truth.size)


def _pairs(
    objects: NDArray[np.uint64], segments: NDArray[np.uint64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Every pair of ids at one voxel, and at how many."""
    changes = (objects[1:] != objects[:-1]) | (segments[1:] != segments[:-1])
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(objects)), np.bool_), changes]))
    lengths = np.diff(starts, append=len(objects))  # of runs, which are far fewer than voxels
    ones, one = np.unique(objects[starts], return_inverse=True)
    others, other = np.unique(segments[starts], return_inverse=True)
    pairs, pair = np.unique(one * max(1, len(others)) + other, return_inverse=True)
    counts = np.bincount(pair, lengths, len(pairs))
    return ones[pairs // max(1, len(others))], others[pairs % max(1, len(others))], counts


def variation_of_information(found: Overlaps) -> tuple[float, float]:
    """Its parts in bits, whose sum it is: H(segmentation | truth), of splits, and H(truth | segmentation), of merges.

    Meila 2007, J. Multivariate Analysis 98: 873-895; by scikit-image.
    """
    from skimage.metrics import variation_of_information as parts

    none = np.empty(0, int)  # scikit-image takes the table, but asks for images of one shape
    split, merge = parts(none, none, table=found.table / found.table.sum())
    return float(split), float(merge)


def adapted_rand(found: Overlaps) -> AdaptedRand:
    """Arganda-Carreras et al. 2015, Front. Neuroanat. 9: 142; by scikit-image, where segment 0 is one as any other."""
    from skimage.metrics import adapted_rand_error

    with np.errstate(invalid="ignore", divide="ignore"):
        error, of_objects, of_segments = adapted_rand_error(table=found.table)  # which it calls precision and recall
    return AdaptedRand(float(error), float(of_segments), float(of_objects))


def adapted_rand_of_cremi(found: Overlaps) -> AdaptedRand:
    """As the CREMI challenge's own code computes it, from squares of counts, where segment 0 is no segment.

    What of the objects lies in segment 0 adds no squares, but its share of all voxels, those that do not count too, to
    the numerator and to the sum over segments.
    """
    is_segment = found.segments != 0
    within = found.table[:, np.flatnonzero(is_segment)]
    beside = found.table[:, np.flatnonzero(~is_segment)].sum() / found.voxels
    together = within.power(2).sum() + beside
    precision = together / ((within.sum(axis=0) ** 2).sum() + beside)
    recall = together / (found.table.sum(axis=1) ** 2).sum()
    return AdaptedRand(float(1 - 2 * precision * recall / (precision + recall)), float(precision), float(recall))


def splits_and_merges(
    found: Overlaps, least: float = LEAST_SHARE, nothing: int = 0
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Objects that are cut into several segments, and segments that span several objects.

    What an object and a segment have in common counts if it is at least a share of the smaller of the two.

    Args:
        found: of all voxels (``ignored=()``), so that the sizes are those of whole objects and segments.
        least: the share.
        nothing: the id of no object and no segment.

    Returns:
        The ids of these objects and of these segments, in order.
    """
    pairs = found.table.tocoo()
    row, column = pairs.coords
    smaller = np.minimum(found.table.sum(axis=1)[row], found.table.sum(axis=0)[column])
    is_pair = (found.objects[row] != nothing) & (found.segments[column] != nothing) & (pairs.data >= least * smaller)
    split = np.bincount(row[is_pair], minlength=len(found.objects)) > 1
    merged = np.bincount(column[is_pair], minlength=len(found.segments)) > 1
    return found.objects[split], found.segments[merged]


def near_borders(labels: NDArray[Any], distance: float) -> NDArray[np.bool_]:
    """The voxels no further than a distance from a border in their own section, as CREMI leaves them out.

    A voxel is on a border if one of its four neighbours in the section has another id.

    Args:
        labels: ``(D, H, W)``.
        distance: in voxels, to the voxels on the border, which are left out themselves.

    Returns:
        ``(D, H, W)``.
    """
    from scipy.ndimage import distance_transform_edt

    near = np.zeros(labels.shape, np.bool_)
    for section, found in zip(labels, near, strict=True):
        on_border = np.zeros(section.shape, np.bool_)
        for axis in (0, 1):
            ids, marked = section.swapaxes(0, axis), on_border.swapaxes(0, axis)
            differs = ids[1:] != ids[:-1]
            marked[1:] |= differs
            marked[:-1] |= differs
        if on_border.any():  # otherwise there is nothing to be near to, and scipy measures to a place outside
            found[:] = distance_transform_edt(~on_border) <= distance
    return near


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))

"""MIND-SSC: how similar the places around a voxel are to each other, whatever the modality (Heinrich et al. 2013)."""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F

from featlift.registration.sampling import shape_of

#: Pairs of neighbours in three dimensions.
CHANNELS = 12

_FLATTEST, _ROUGHEST = 1e-3, 1e3  # limits of the local variance, in parts of its mean


def mind(image: torch.Tensor, radius: int = 1, dilation: int = 2) -> torch.Tensor:
    """Self-similarity context of an image.

    Of the nearest neighbours of a voxel those are compared that lie along different axes: 12 pairs in three dimensions,
    4 in two. Each channel is ``exp(-(d - min d) / variance)``, d the mean squared difference of the patches around a
    pair, and the variance of a voxel the mean of ``d - min d`` over its pairs.

    Args:
        image: ``(D, H, W)``, in any unit; two dimensions are a D of 1.
        radius: patches have a side of ``2 radius + 1`` voxels.
        dilation: how many voxels away the neighbours are.

    Returns:
        ``(12, D, H, W)`` in [0, 1], ``(4, 1, H, W)`` of a single slice.
    """
    axes = [axis for axis, size in enumerate(shape_of(image)) if size > 1]
    steps = [(axis, sign) for axis in axes for sign in (-1, 1)]
    pairs = [(one, other) for one, other in combinations(steps, 2) if one[0] != other[0]]
    around = {step: _shifted(image, *step, dilation) for step in steps}
    distances = image.new_empty(len(pairs), *image.shape)
    for distance, (one, other) in zip(distances, pairs, strict=True):
        distance.copy_(_patch_mean((around[one] - around[other]) ** 2, radius))
    distances -= distances.min(dim=0).values
    variance = distances.mean(dim=0)
    mean = float(variance.mean())
    if mean:  # in place: these are the largest arrays of a registration
        distances /= variance.clamp_(mean * _FLATTEST, mean * _ROUGHEST)
    return distances.neg_().exp_()


def _shifted(image: torch.Tensor, axis: int, sign: int, dilation: int) -> torch.Tensor:
    """The image as seen from so many voxels away along an axis, its edges continued."""
    last = image.shape[axis] - 1
    at = torch.arange(last + 1, device=image.device) + sign * dilation
    return image.index_select(axis, at.clamp(0, last))


def _patch_mean(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over the patch around each voxel of ``(D, H, W)``, edges continued."""
    depth, height, width = (radius if size > 1 else 0 for size in shape_of(values))
    padded = F.pad(values[None, None], (width, width, height, height, depth, depth), mode="replicate")
    return F.avg_pool3d(padded, (2 * depth + 1, 2 * height + 1, 2 * width + 1), stride=1)[0, 0]

"""From a head to affinities, from affinities to objects, and the threshold between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.metrics.instances import adapted_rand, overlaps, variation_of_information
from featlift.segmentation.data.cases import CaseReader
from featlift.segmentation.inference.windows import slabs_of
from featlift.segmentation.instances.affinities import NEIGHBOURS
from featlift.segmentation.instances.agglomeration import agglomerate_sections
from featlift.segmentation.instances.mutex import mutex_watershed
from featlift.segmentation.instances.settings import AffinitySettings
from featlift.segmentation.networks.head import Head
from featlift.segmentation.objects.labels import NOTHING, UNKNOWN, scan_in
from featlift.segmentation.plan import Patch

#: Among which the threshold is chosen; of the mutex watershed, which begins anew for each, fewer.
THRESHOLDS = tuple(number / 20 for number in range(1, 20))
_BIASES = (0.5, 0.6, 0.7, 0.8, 0.9)
_ATTRACTIVE = 0.5  # bias of neighbours


@torch.inference_mode()
def affinities_of(
    heads: Sequence[tuple[Head, CaseReader]],
    case_id: str,
    patch: Patch | None,
    settings: AffinitySettings,
    device: torch.device,
    bf16: bool = False,
) -> NDArray[np.uint8]:
    """Affinities of a case at every voxel of its scan, blended over windows; the mean of several heads.

    Args:
        heads: in evaluation mode, each with what reads its store.
        case_id: of the case.
        patch: of the windows, see `slabs_of`.
        settings: of the heads: agglomeration takes the affinities of neighbours alone, the mutex watershed all.
        device: where they compute.
        bf16: multiply in bfloat16.

    Returns:
        ``(K, D, H, W)``, 255 for 1.
    """
    channels = len(settings.vectors if settings.agglomeration == "mutex" else NEIGHBOURS)
    found = np.zeros((channels, *heads[0][1].store[case_id].scan_shape), np.uint8)
    total = found if len(heads) == 1 else found.astype(np.uint16)
    for head, reader in heads:
        depth, *plane = scan_in(reader.frame(reader.store[case_id]))
        first = -depth.start  # of a slab, among the sections of the scan
        for slab in slabs_of(head.to(device), reader, case_id, patch, device, bf16, channels):
            values = (slab.sigmoid_() * 255).round_().to(torch.uint8).numpy()[(slice(None), slice(None), *plane)]
            inside = slice(max(0, -first), max(0, total.shape[1] - first))
            part = values[:, inside]
            total[:, first + inside.start : first + inside.start + part.shape[1]] += part
            first += values.shape[1]
    if total is not found:
        found[:] = np.round(total / np.float32(len(heads)))
    return found


def objects_in(
    predicted: NDArray[np.uint8], settings: AffinitySettings, thresholds: Sequence[float]
) -> Iterator[NDArray[np.uint64]]:
    """Segmentations ``(D, H, W)`` of affinities ``(K, D, H, W)``, one for each threshold in increasing order.

    Of agglomeration the threshold is what regions merge up to, see `agglomerate`; of the mutex watershed the bias of
    the long offsets, which is 0.5 of neighbours.
    """
    if settings.agglomeration != "mutex":
        yield from agglomerate_sections(predicted, thresholds, settings.agglomeration)
        return
    near, far = len(NEIGHBOURS), len(settings.vectors) - len(NEIGHBOURS)
    for bias in thresholds:
        yield mutex_watershed(predicted, settings.vectors, [_ATTRACTIVE] * near + [bias] * far)


def choose_threshold(
    cases: Iterable[tuple[NDArray[np.uint8], NDArray[Any]]], settings: AffinitySettings
) -> dict[str, float]:
    """The threshold of the least variation of information, the mean over cases; of several the lowest.

    Args:
        cases: affinities and objects of each, see `featlift.segmentation.objects.labels`.
        settings: of the head.

    Returns:
        ``threshold``, and the mean ``voi`` and ``arand`` that it gives.
    """
    thresholds = _BIASES if settings.agglomeration == "mutex" else THRESHOLDS
    scores = []
    for predicted, objects in cases:
        tables = (overlaps(objects, found, (NOTHING, UNKNOWN)) for found in objects_in(predicted, settings, thresholds))
        scores.append([(sum(variation_of_information(table)), adapted_rand(table).error) for table in tables])
    means = np.mean(scores, axis=0)
    best = int(means[:, 0].argmin())
    return {"threshold": thresholds[best], "voi": float(means[best, 0]), "arand": float(means[best, 1])}

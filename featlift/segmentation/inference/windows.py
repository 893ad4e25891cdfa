"""A head over a whole case: in one piece, or in overlapping windows that are blended."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featlift.segmentation.data.cases import CaseReader
from featlift.segmentation.data.frame import Frame
from featlift.segmentation.data.patches import patch_cells
from featlift.segmentation.networks.head import Head
from featlift.segmentation.plan import Patch
from featlift.volumes.regions import Box


def logits_of(
    head: Head, reader: CaseReader, case_id: str, patch: Patch | None, device: torch.device, bf16: bool = False
) -> Tensor:
    """Logits ``(K, D, H, W)`` of a case on its predicted voxels, see `slabs_of`."""
    slabs = list(slabs_of(head, reader, case_id, patch, device, bf16))
    return slabs[0] if len(slabs) == 1 else torch.cat(slabs, dim=1)


@torch.inference_mode()
def slabs_of(
    head: Head,
    reader: CaseReader,
    case_id: str,
    patch: Patch | None,
    device: torch.device,
    bf16: bool = False,
    channels: int | None = None,
) -> Iterator[Tensor]:
    """Logits ``(K, n, H, W)`` of a case on its predicted voxels, slab after slab along depth, on the CPU.

    Windows overlap by half, and count less towards their edges. No more than a window's depth is held at a time.

    Args:
        head: in evaluation mode.
        reader: of its store.
        case_id: of the case.
        patch: predicted voxels a side of a window, or along d, h and w, at most; None takes the case in one piece.
        device: where the head is.
        bf16: multiply in bfloat16.
        channels: how many of the K, the first ones; None takes all.
    """
    frame = reader.frame(reader.store[case_id])
    size = frame.cells if patch is None else patch_cells(frame, patch)
    share = torch.from_numpy(_weights(frame, size))
    held = (len(share), *frame.fine[1:])
    total, weight = torch.zeros(channels or head.size.classes, *held), torch.zeros(held)
    first = 0  # of the predicted slices that are held
    for box in _boxes(frame, size):
        batch = reader.read(case_id, box).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = head(batch)[0, :channels].float().cpu()
        under = frame.under(box)
        if done := under.start[0] - first:
            yield total[:, :done] / weight[:done]
            for buffer in (total, weight[None]):
                buffer[:, :-done] = buffer[:, done:].clone()
                buffer[:, -done:] = 0
            first += done
        where = tuple(slice(start, start + n) for start, n in zip(under.start[1:], under.shape[1:], strict=True))
        total[(slice(None), slice(None), *where)] += share * found
        weight[(slice(None), *where)] += share
    yield total / weight


def _boxes(frame: Frame, size: tuple[int, int, int]) -> Iterator[Box]:
    """Boxes of cells, half a box apart, the last of each axis at its end."""
    axes = []
    for cells, n in zip(frame.cells, size, strict=True):
        steps = max(0, -(-(cells - n) // max(1, n // 2)))
        axes.append(sorted({round(number * (cells - n) / max(1, steps)) for number in range(steps + 1)}))
    for d, h, w in product(*axes):
        yield Box((d, h, w), size)


def _weights(frame: Frame, size: tuple[int, int, int]) -> NDArray[np.float32]:
    """Of the predicted voxels of a window: 1 in its middle, falling to its edges."""
    axes = []
    for n, ratio in zip(size, frame.ratio, strict=True):
        at = (np.arange(n * ratio) + 0.5) / (n * ratio)
        axes.append(np.minimum(at, 1 - at) * 2)
    d, h, w = axes
    weights: NDArray[np.float32] = (d[:, None, None] * h[:, None] * w).astype(np.float32)
    return weights

"""The grid that two scans meet on: how fine it is, and what that takes of memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.lifting.budget import free_bytes
from featlift.sizes import decimal_bytes
from featlift.volumes.grid import Shape, resample, target_shape
from featlift.volumes.volume import Affine, Volume, spacing_of

#: What a registration takes unless told otherwise, or what is free where that is less. A fixed number, so that a pair
#: has the same field on every machine that holds it.
MEMORY = 8 * 10**9

#: Measured peaks: of each channel of features and voxel of the common grid, and of each voxel of the scans themselves.
_PER_CHANNEL, _PER_VOXEL = 24, 24
_PROCESS = 600 * 10**6  # Python, torch, and what they load


def spacing_within(
    fixed: Volume,
    moving: Volume,
    channels: int,
    memory: int | None,
    device: torch.device,
    notify: Callable[[str], object] | None = None,
) -> float:
    """Edge of the cubes of the common grid: the fixed scan's shortest, or as much longer as memory asks for.

    Args:
        fixed: the scan that stays.
        moving: the other one.
        channels: of the features.
        memory: bytes; None for `MEMORY`, or what is free.
        device: where the field is optimised.
        notify: told in one line of edges that are longer.

    Returns:
        Millimetres.
    """
    assert fixed.affine is not None
    spacing = spacing_of(fixed.affine)
    several = [(size, step) for size, step in zip(fixed.array.shape, spacing, strict=True) if size > 1]
    finest = min(step for _, step in several)
    if memory is None:
        memory = min(MEMORY, free_bytes(device) or MEMORY)
    room = max(memory - _PROCESS - _PER_VOXEL * (fixed.array.size + moving.array.size), memory // 8)
    voxels = float(np.prod([size * step / finest for size, step in several]))
    most = room / (_PER_CHANNEL * channels)
    if voxels <= most:
        return finest
    coarser = finest * float((voxels / most) ** (1 / len(several)))
    if notify is not None:
        notify(
            f"featlift: a common grid of {coarser:.2f} mm instead of {finest:.2f} mm, for {decimal_bytes(memory)}; "
            "--memory and --grid-mm give others"
        )
    return coarser


def shrunk(volume: Volume, affine: Affine, spacing: float, grow: bool = False) -> tuple[NDArray[np.float32], Affine]:
    """A scan at a spacing, low-passed where it shrinks, and its affine; axes that are coarser grow only if asked to.

    An axis of one voxel stays one.
    """
    depth, height, width = volume.array.shape
    shape: Shape = (depth, height, width)
    wanted = tuple(
        spacing if size > 1 and (grow or step < spacing) else 0
        for size, step in zip(shape, spacing_of(affine), strict=True)
    )
    values, changed = resample(volume.array[None], affine, target_shape(shape, affine, wanted, ()))
    assert changed is not None
    return values[0], changed

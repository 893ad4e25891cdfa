"""The order of work: which blocks run together on which planes, and how many planes at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from featlift.backbones.backbone import Backbone, Layer
from featlift.lifting.planes import Cycle, Plane


@dataclass(frozen=True)
class Run:
    """Consecutive blocks on one orientation between which no plane needs to hear of another."""

    plane: Plane
    blocks: range


def plan_runs(
    backbone: Backbone, cycle: Cycle, layers: tuple[Layer, ...], tokens_stay: Callable[[Plane], bool]
) -> list[Run]:
    """Give every block its plane and group the blocks into runs.

    Blocks that change the shape run in HW; the others, counted by themselves, take the planes of the cycle in turn.

    Args:
        backbone: whose blocks.
        cycle: planes in turn.
        layers: layers to read; a run ends where one is read.
        tokens_stay: whether two blocks in a row on this plane leave each plane's global tokens to itself.

    Returns:
        Runs in order. The first follows the embedding, in HW; it may hold no block.
    """
    reads = {layer.after for layer in layers}
    runs = [Run("HW", range(0))]
    turn = 0
    for block in range(layers[-1].after):
        plane: Plane = "HW"
        if not backbone.changes_shape(block):
            plane = cycle[turn % len(cycle)]
            turn += 1
        last = runs[-1]
        # the first run needs no pooling even in pcm: after the embedding every slice has the same global tokens
        if plane == last.plane and block not in reads and (not last.blocks or tokens_stay(plane)):
            runs[-1] = Run(plane, range(last.blocks.start, block + 1))
        else:
            runs.append(Run(plane, range(block, block + 1)))
    return runs


def batches(volumes: int, planes: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Cut B volumes of P planes into batches of at most `size` planes: whole volumes, or some planes of one."""
    step = max(1, size // planes)
    for b in range(0, volumes, step):
        for p in range(0, planes, min(size, planes)):
            yield slice(b, b + step), slice(p, p + min(size, planes))


#: Values of the feature volume that run together. On a CPU small batches stay in the caches (measured best at about
#: 2048 tokens of a ViT-S); an accelerator wants to be filled.
_CPU_VALUES = 2048 * 384
_ACCELERATOR_VALUES = 65536 * 768


def planes_at_a_time(device: torch.device, plane_shape: tuple[int, ...]) -> int:
    """How many planes of this shape make a batch on this device."""
    values = _CPU_VALUES if device.type == "cpu" else _ACCELERATOR_VALUES
    return max(1, values // math.prod(plane_shape))


class Assembly:
    """Results of batches put together again: in place, into new memory, or, with gradients, by joining.

    Args:
        lead: (B, P), the number of volumes and of planes.
        target: ``(B, P, ...)`` to write into, or None.
    """

    def __init__(self, lead: tuple[int, ...], target: Tensor | None = None) -> None:
        self._lead = lead
        self._target = target
        self._parts: list[Tensor] = []

    def put(self, batch: slice, plane: slice, values: Tensor) -> None:
        """Take the results ``(N, ...)`` for planes ``[batch, plane]``; batches come in order."""
        if torch.is_grad_enabled():
            self._parts.append(values)
            return
        if self._target is None:
            self._target = values.new_empty(*self._lead, *values.shape[1:])
        place = self._target[batch, plane]
        place.copy_(values.view(place.shape))

    def whole(self) -> Tensor:
        """Everything, ``(B, P, ...)``."""
        if self._target is not None:
            return self._target
        parts = torch.cat(self._parts)
        return parts.view(*self._lead, *parts.shape[1:])

"""Planes taken through a step of the network as many at a time as memory allows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from featlift.errors import LiftingMemoryError
from featlift.lifting.budget import FreeMemory, is_out_of_memory
from featlift.lifting.costs import PlaneCost

#: What a batch of planes goes through: tensors (N, ...) to planes (N, R, S, C) and tokens (N, g, C).
Step = Callable[..., tuple[Tensor, Tensor]]

#: Values of planes beyond which more at a time are no faster. On a CPU small batches stay in the caches; an accelerator
#: wants to be filled.
_CPU_VALUES = 1024 * 384
_ACCELERATOR_VALUES = 65536 * 768

#: Share of the free memory that ``auto`` counts on: the rest is for what an estimate does not see.
_SHARE = 0.8


class PlaneBatches:
    """Decides how many planes run together, and puts their results together again.

    Args:
        plane_batch: that many, whatever the memory.
        memory: bytes that the planes at work may take, beside weights, volume and features; None takes what is free.
        offload: keep results in host memory, and bring only the planes at work to the device.
    """

    def __init__(self, plane_batch: int | None = None, memory: int | None = None, offload: bool = False) -> None:
        self.plane_batch = plane_batch
        self.memory = memory
        self.offload = offload

    def run(
        self, step: Step, sources: tuple[Tensor, ...], cost: PlaneCost, free: FreeMemory, target: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take every plane through `step`.

        When the device runs out of memory, the planes that failed, and no others, run again in batches of half as many:
        nothing is written before a batch has succeeded, because a block must not be applied twice.

        Args:
            step: what to do with a batch.
            sources: tensors ``(B, P, ...)`` that the step takes, cut to a batch and flattened to ``(N, ...)``.
            cost: of one plane.
            free: memory of the device where the step computes.
            target: planes ``(B, P, R, S, C)`` to write to; None takes new memory.

        Returns:
            Planes ``(B, P, R, S, C)`` and tokens ``(B, P, g, C)``.

        Raises:
            LiftingMemoryError: a single plane does not fit.
        """
        volumes, count = sources[0].shape[:2]
        device = free.device
        size = self._planes_at_a_time(cost, free, count)
        planes, tokens = _Joined((volumes, count), target), _Joined((volumes, count))
        home = torch.device("cpu") if self.offload else device
        done = 0
        while done < volumes * count:
            where = cut(done, volumes, count, size)
            together = math.prod(part.stop - part.start for part in where)
            try:
                results = step(*(source[where].flatten(0, 1).to(device) for source in sources))
                for joined, values in zip((planes, tokens), results, strict=True):
                    joined.prepare(values, home)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if together == 1:
                    raise _too_large(cost, free) from error
                size = together // 2
                continue
            for joined, values in zip((planes, tokens), results, strict=True):
                joined.put(where, values)
            done += together
            del results  # or it would stand beside the next batch
        return planes.whole(), tokens.whole()

    def _planes_at_a_time(self, cost: PlaneCost, free: FreeMemory, planes: int) -> int:
        """How many planes make a batch, of so many that a volume has.

        Raises:
            LiftingMemoryError: the memory that was asked for is not enough for one.
        """
        if self.plane_batch is not None:
            return self.plane_batch
        fitting = self._fitting(cost, free)
        return fitting if free.device.type == "cpu" else evenly(planes, fitting)

    def _fitting(self, cost: PlaneCost, free: FreeMemory) -> int:
        """How many planes at a time are fast and fit."""
        on_host = free.device.type == "cpu"
        enough = max(1, int((_CPU_VALUES if on_host else _ACCELERATOR_VALUES) / cost.values))
        if self.memory is not None:
            if self.memory < cost.held:
                raise LiftingMemoryError(
                    f"one plane needs about {_readable(cost.held)} beside the features but --memory allows "
                    f"{_readable(self.memory)}: give at least that, or smaller planes with --tile or --depth-window"
                )
            return min(enough, int(self.memory / cost.held))
        there = free.bytes()
        if there is None:
            return enough
        if on_host and there < cost.held:  # a host that runs out raises no error: it ends the process
            raise _too_large(cost, free)
        return max(1, min(enough, int(_SHARE * there / cost.held)))


def evenly(planes: int, most: int) -> int:
    """A batch of at most so many planes that leaves no smaller one over, unless that halves it.

    Kernels on an accelerator are planned for each shape, and one shape is less than two.
    """
    divisors = (size for size in range(min(planes, most), most // 2, -1) if planes % size == 0)
    return next(divisors, most)


def cut(done: int, volumes: int, planes: int, size: int) -> tuple[slice, slice]:
    """The next at most `size` of B volumes of P planes, some being done: whole volumes, or some planes of one."""
    volume, plane = divmod(done, planes)
    if plane == 0 and size >= planes:
        return slice(volume, min(volume + size // planes, volumes)), slice(0, planes)
    return slice(volume, volume + 1), slice(plane, min(plane + size, planes))


class _Joined:
    """Results of batches put together: in place, in new memory, or, with gradients, by joining."""

    def __init__(self, lead: tuple[int, int], target: Tensor | None = None) -> None:
        self._lead = lead
        self._target = target
        self._parts: list[Tensor] = []
        self._home = torch.device("cpu")

    def prepare(self, values: Tensor, home: torch.device) -> None:
        """Take the memory for results such as `values`, unless there is some: all that can run out of it."""
        self._home = home
        if self._target is None and not torch.is_grad_enabled():
            pinned = values.device.type == "cuda" and home.type == "cpu"
            shape = (*self._lead, *values.shape[1:])
            self._target = torch.empty(shape, dtype=values.dtype, device=home, pin_memory=pinned)

    def put(self, where: tuple[slice, slice], values: Tensor) -> None:
        """Take the results ``(N, ...)`` for planes ``[batch, plane]``; batches come in order."""
        if self._target is None:
            self._parts.append(values.to(self._home))
        else:
            place = self._target[where]
            place.copy_(values.view(place.shape))

    def whole(self) -> Tensor:
        """Everything, ``(B, P, ...)``."""
        if self._target is not None:
            return self._target
        parts = torch.cat(self._parts)
        return parts.view(*self._lead, *parts.shape[1:])


def _too_large(cost: PlaneCost, free: FreeMemory) -> LiftingMemoryError:
    there = free.bytes()
    return LiftingMemoryError(
        f"one plane needs about {_readable(cost.held)} beside the features, {free.device} has "
        f"{'not enough' if there is None else _readable(there)} free: make planes smaller with --tile or "
        "--depth-window, their values with --precision bf16, or keep the features in host memory with --offload"
    )


def _readable(nbytes: float) -> str:
    return f"{nbytes / 2**20:,.2f} MiB"

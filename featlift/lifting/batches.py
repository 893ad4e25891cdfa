"""Planes taken through a step of the network as many at a time as memory allows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from featlift.errors import LiftingMemoryError
from featlift.lifting.budget import free_bytes, is_out_of_memory

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
        self, step: Step, sources: tuple[Tensor, ...], held: float, device: torch.device, target: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take every plane through `step`.

        When the device runs out of memory, the planes that failed, and no others, run again in batches of half as many:
        nothing is written before a batch has succeeded, because a block must not be applied twice.

        Args:
            step: what to do with a batch.
            sources: tensors ``(B, P, ...)`` that the step takes, cut to a batch and flattened to ``(N, ...)``.
            held: bytes that the step holds at its peak, for one plane.
            device: where the step computes.
            target: planes ``(B, P, R, S, C)`` to write to; None takes new memory.

        Returns:
            Planes ``(B, P, R, S, C)`` and tokens ``(B, P, g, C)``.

        Raises:
            LiftingMemoryError: a single plane does not fit.
        """
        volumes, count = sources[0].shape[:2]
        size = self._planes_at_a_time(math.prod(sources[0].shape[2:]), held, device)
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
                    raise _too_large(held, device) from error
                size = together // 2
                continue
            for joined, values in zip((planes, tokens), results, strict=True):
                joined.put(where, values)
            done += together
            del results  # or it would stand beside the next batch
        return planes.whole(), tokens.whole()

    def _planes_at_a_time(self, values: int, held: float, device: torch.device) -> int:
        """How many planes of so many values make a batch.

        Raises:
            LiftingMemoryError: the memory that was asked for is not enough for one.
        """
        if self.plane_batch is not None:
            return self.plane_batch
        enough = max(1, (_CPU_VALUES if device.type == "cpu" else _ACCELERATOR_VALUES) // values)
        if self.memory is not None:
            if self.memory < held:
                raise LiftingMemoryError(
                    f"one plane needs about {_readable(held)} beside the features but --memory allows "
                    f"{_readable(self.memory)}: give at least that, or make planes smaller with --depth-window"
                )
            return min(enough, int(self.memory / held))
        free = free_bytes(device)
        if free is None:
            return enough
        if device.type == "cpu" and free < held:  # a host that runs out raises no error: it ends the process
            raise _too_large(held, device)
        return max(1, min(enough, int(_SHARE * free / held)))


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


def _too_large(held: float, device: torch.device) -> LiftingMemoryError:
    free = free_bytes(device)
    return LiftingMemoryError(
        f"one plane needs about {_readable(held)} beside the features, {device} has "
        f"{'not enough' if free is None else _readable(free)} free: make planes smaller with --depth-window, their "
        "values with --precision bf16, or keep the features in host memory with --offload"
    )


def _readable(nbytes: float) -> str:
    return f"{nbytes / 2**20:,.2f} MiB"

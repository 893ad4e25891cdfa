"""Several processes that train one network, each on its share of every batch.

Start them with ``torchrun --nproc-per-node N``; torch's DistributedDataParallel averages their gradients.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

_T = TypeVar("_T")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes:
        rank: from 0.
        world: how many.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files."""
        return self.rank == 0

    def share(self, items: Sequence[_T]) -> list[_T]:
        """Those of this process: every N-th."""
        return list(items[self.rank :: self.world])

    def gathered(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """What all processes found, in each of them."""
        if self.world == 1:
            return dict(found)
        parts: list[Any] = [None] * self.world
        distributed.all_gather_object(parts, dict(found))
        return {key: value for part in parts for key, value in part.items()}

    def average(self, values: Iterable[Tensor]) -> None:
        """Give values, in place, their means over all processes."""
        if self.world > 1:
            for value in values:
                distributed.all_reduce(value)
                value /= self.world

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.barrier()

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module whose gradients are means over all processes."""
        if self.world == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """This process among those that torchrun started, by its variables; alone without them.

    Args:
        device: where it computes: NCCL connects GPUs, gloo processes on CPUs.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), world)
    finally:
        distributed.destroy_process_group()

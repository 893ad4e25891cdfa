"""How much memory a step of a network takes, found by running it once on something small."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Footprint:
    """Memory of a step in values per value that it is given; proportional to the area of a plane.

    Attributes:
        peak: values held at once at most, those given included.
        result: values returned.
    """

    peak: float
    result: float


class PeakMemory(TorchDispatchMode):
    """Watches the tensors that come and go while it is active; `peak` is the most bytes that they held at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._held = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation; count the memory it made, not what it was given or returns a view of."""
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                self._known.add(given.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and (storage := made.untyped_storage()) not in self._known:
                self._known.add(storage)
                self._held += storage.nbytes()
                weakref.finalize(storage, self._let_go, storage.nbytes())
        self.peak = max(self.peak, self._held)
        return result

    def _let_go(self, nbytes: int) -> None:
        self._held -= nbytes


@torch.no_grad()
def footprint_of(step: Callable[..., tuple[Tensor, Tensor]], given: Tensor, *more: Any) -> Footprint:
    """Run a step that returns planes and tokens, and see what it held."""
    with PeakMemory() as memory:
        planes, _ = step(given, *more)
    return Footprint(1 + memory.peak / given.nbytes, planes.numel() / given.numel())

"""Heads on frozen vectors, trained for several seeds at once.

Every parameter has a leading axis of seeds. The loss is the sum of the seeds' losses, whose gradients do not meet, and
AdamW works on each number by itself: so one training of S seeds is S trainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

WARM_UP = 20  # one of so many iterations
_FIRST, _LAST = 1e-3, 1e-6  # the rate starts at this part of its highest, and ends at this rate


@dataclass(frozen=True)
class ProbeTraining:
    """How heads are trained.

    Attributes:
        loss: ``cross entropy`` of classes, or ``binary cross entropy`` of findings.
        learning_rate: the highest.
        weight_decay: AdamW's.
        batch: cases.
        iterations: steps.
        schedule: ``cosine``: linear warm-up over a twentieth of the iterations, then half a cosine down to 1e-6; or
            ``constant``.
    """

    loss: Literal["cross entropy", "binary cross entropy"]
    learning_rate: float
    weight_decay: float
    batch: int
    iterations: int
    schedule: Literal["cosine", "constant"]

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        warm_up = self.iterations // WARM_UP
        if self.schedule == "constant":
            return self.learning_rate
        if step < warm_up:
            return self.learning_rate * (_FIRST + (1 - _FIRST) * step / warm_up)
        done = (step - warm_up) / (self.iterations - warm_up)
        return _LAST + (self.learning_rate - _LAST) * (1 + math.cos(math.pi * done)) / 2


class Heads:
    """A head for each seed, side by side.

    Attributes:
        parameters: by name, the first axis being seeds.
    """

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self.parameters = parameters

    def copy(self) -> dict[str, Tensor]:
        """The parameters as they are now."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}


AnyHeads = TypeVar("AnyHeads", bound=Heads)
_Heads = TypeVar("_Heads", bound=Heads, contravariant=True)


class Cases(Protocol[_Heads]):
    """What heads of some kind are trained on, and asked about."""

    def __len__(self) -> int:
        """How many cases, N."""

    def of(self, rows: NDArray[np.intp]) -> Self:
        """Some of them."""

    def trained(self, heads: _Heads, rows: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Outputs ``(S, B, K)`` of a batch that is learned from, for each seed its own rows ``(S, B)`` and draws."""

    def scored(self, heads: _Heads) -> Tensor:
        """Outputs ``(S, N, K)`` of all of them, the same for every seed."""


def uniform(
    shapes: Mapping[str, tuple[int, ...]], inputs: Mapping[str, int], generators: Sequence[torch.Generator]
) -> dict[str, Tensor]:
    """Parameters to start from, uniform within 1 / sqrt(inputs), as those of torch's Linear.

    Args:
        shapes: of each parameter, for one seed.
        inputs: how many numbers each weighs.
        generators: one for each seed.
    """
    return {
        name: torch.stack([(2 * torch.rand(shape, generator=one) - 1) * inputs[name] ** -0.5 for one in generators])
        for name, shape in shapes.items()
    }


def train(
    make: Callable[[Sequence[torch.Generator]], AnyHeads],
    cases: Cases[AnyHeads],
    targets: Tensor,
    training: ProbeTraining,
    seeds: Sequence[int],
    after_epoch: Callable[[AnyHeads, int], None] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> AnyHeads:
    """Train heads, one for each seed.

    A seed decides where a head starts and in which order it sees the cases: every case once an epoch, the last batch of
    an epoch being what is left.

    Args:
        make: heads to start from, given a generator for each seed.
        cases: to learn from, N.
        targets: classes ``(N,)``, or findings ``(N, K)`` of 0, 1 and nan for what is not known.
        training: how.
        seeds: each a training of its own.
        after_epoch: called after each epoch and at the end, with the heads and the steps done.
        progress: called after each step, with the steps done and their number.

    Returns:
        The heads as they are after the last step.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    heads = make(generators)
    parameters = [value.requires_grad_() for value in heads.parameters.values()]
    optimiser = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)
    batches = _batches(len(cases), training.batch, generators)
    for step in range(training.iterations):
        rows, last = next(batches)
        for group in optimiser.param_groups:
            group["lr"] = training.rate(step)
        optimiser.zero_grad()
        loss_of(cases.trained(heads, rows, generators), targets[rows], training.loss).backward()
        optimiser.step()
        if progress is not None:
            progress(step + 1, training.iterations)
        if after_epoch is not None and (last or step == training.iterations - 1):
            with torch.no_grad():
                after_epoch(heads, step + 1)
    for value in parameters:
        value.requires_grad_(False)
    return heads


def loss_of(outputs: Tensor, targets: Tensor, loss: str) -> Tensor:
    """The sum over seeds of the mean loss over a batch: outputs ``(S, B, K)``, targets ``(S, B)`` or ``(S, B, K)``."""
    if loss == "cross entropy":
        each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
        return each.view(targets.shape).mean(dim=1).sum()
    known = ~targets.isnan()
    each = F.binary_cross_entropy_with_logits(outputs, targets.nan_to_num(), weight=known.float(), reduction="none")
    return (each.sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1)).sum()


def probabilities_of(outputs: Tensor, loss: str) -> NDArray[np.float64]:
    """Probabilities ``(S, N, K)`` of outputs: of classes, which add up to 1, or of each finding by itself."""
    exact = outputs.double()
    return (exact.softmax(dim=-1) if loss == "cross entropy" else exact.sigmoid()).numpy()


def _batches(count: int, size: int, generators: Sequence[torch.Generator]) -> Iterator[tuple[Tensor, bool]]:
    """Rows ``(S, B)`` of one batch after the other, and whether it ends an epoch."""
    while True:
        order = torch.stack([torch.randperm(count, generator=one) for one in generators])
        parts = order.split(size, dim=1)
        for number, rows in enumerate(parts, start=1):
            yield rows, number == len(parts)

"""Linear heads on frozen vectors of slices, trained for several seeds at once.

Every parameter has a leading axis of seeds. The loss is the sum of the seeds' losses, whose gradients do not meet, and
AdamW works on each number by itself: so one training of S seeds is S trainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
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
    """For each seed a weighted mean of the slices, then a linear layer.

    The weights of the slices and a bias are learned; a single slice is taken as it is.

    Attributes:
        parameters: by name, the first axis being seeds.
    """

    def __init__(self, depth: int, channels: int, outputs: int, generators: Sequence[torch.Generator]) -> None:
        shapes = {"weight": (channels, outputs), "bias": (outputs,)}
        bounds = dict.fromkeys(shapes, channels**-0.5)
        if depth > 1:
            shapes |= {"pool": (depth,), "pool_bias": (1,)}
            bounds |= dict.fromkeys(("pool", "pool_bias"), depth**-0.5)
        # uniform within 1 / sqrt(inputs), as torch's Linear starts
        self.parameters = {
            name: torch.stack([(2 * torch.rand(shape, generator=one) - 1) * bounds[name] for one in generators])
            for name, shape in shapes.items()
        }

    def __call__(self, vectors: Tensor) -> Tensor:
        """Outputs ``(S, B, K)`` of vectors ``(S, B, D, C)``, or ``(B, D, C)`` if they are the same for every seed."""
        own = self.parameters
        if "pool" not in own:
            pooled = vectors.squeeze(-2).expand(len(own["bias"]), -1, -1)
        elif vectors.ndim == 4:
            pooled = (own["pool"][:, None, None] @ vectors).squeeze(-2) + own["pool_bias"][:, :, None]
        else:
            pooled = (own["pool"] @ vectors).transpose(0, 1) + own["pool_bias"][:, :, None]
        return torch.baddbmm(own["bias"][:, None], pooled, own["weight"])

    def copy(self) -> dict[str, Tensor]:
        """The parameters as they are now."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}


def train(
    vectors: Tensor,
    targets: Tensor,
    outputs: int,
    training: ProbeTraining,
    seeds: Sequence[int],
    after_epoch: Callable[[Heads, int], None] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Heads:
    """Train heads, one for each seed.

    A seed decides where a head starts and in which order it sees the cases: every case once an epoch, the last batch of
    an epoch being what is left.

    Args:
        vectors: ``(N, D, C)``.
        targets: classes ``(N,)``, or findings ``(N, K)`` of 0, 1 and nan for what is not known.
        outputs: K, how many.
        training: how.
        seeds: each a training of its own.
        after_epoch: called after each epoch and at the end, with the heads and the steps done.
        progress: called after each step, with the steps done and their number.

    Returns:
        The heads as they are after the last step.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    heads = Heads(vectors.shape[1], vectors.shape[2], outputs, generators)
    parameters = [value.requires_grad_() for value in heads.parameters.values()]
    optimiser = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)
    room = vectors.new_empty(len(seeds) * min(training.batch, len(vectors)), *vectors.shape[1:])
    batches = _batches(len(vectors), training.batch, generators)
    for step in range(training.iterations):
        rows, last = next(batches)
        for group in optimiser.param_groups:
            group["lr"] = training.rate(step)
        optimiser.zero_grad()
        # vectors[rows] in a fraction of the time: no memory is asked for, step after step
        batch = torch.index_select(vectors, 0, rows.flatten(), out=room[: rows.numel()])
        loss_of(heads(batch.view(*rows.shape, *vectors.shape[1:])), targets[rows], training.loss).backward()
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


def _batches(count: int, size: int, generators: Sequence[torch.Generator]) -> Iterator[tuple[Tensor, bool]]:
    """Rows ``(S, B)`` of one batch after the other, and whether it ends an epoch."""
    while True:
        order = torch.stack([torch.randperm(count, generator=one) for one in generators])
        parts = order.split(size, dim=1)
        for number, rows in enumerate(parts, start=1):
            yield rows, number == len(parts)

"""The training loop: AdamW, a learning rate that rises and falls, the best round by validation, and going on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from featlift.training.checkpoint import Checkpoint, write_checkpoint
from featlift.training.curves import write_curves
from featlift.training.order import Order
from featlift.training.precision import products_in_bf16
from featlift.training.ranks import Ranks
from featlift.training.rates import WarmUpCosine
from featlift.training.task import B, Task

#: Called after each round with a row of the curves and the number of rounds at most.
Told = Callable[[dict[str, float], int], object]


@dataclass(frozen=True)
class Course:
    """How long, how fast and in which order.

    Attributes:
        rounds: at most; after each there is a validation.
        order: of the cases.
        rate: the highest learning rate, of groups without a part of their own.
        shares: of the highest rate, for each step, or each round if `by_round`.
        by_round: whether the learning rate changes once a round rather than once a step.
        decay: AdamW's, of groups without their own.
        clip: of the norm of all gradients together; None leaves them.
        patience: rounds without a better validation after which training ends; None trains all rounds.
        at_once: cases of a batch that are computed together, gradients being added up; None takes all.
        seed: of what the network draws, such as dropout.
    """

    rounds: int
    order: Order
    rate: float
    shares: WarmUpCosine
    by_round: bool = False
    decay: float = 0.01
    clip: float | None = None
    patience: int | None = None
    at_once: int | None = None
    seed: int = 0


class Trainer(Generic[B]):
    """A task on its way.

    Every round starts from random numbers of its own, so that a training that went on ends as one that was not
    interrupted: bit for bit on one device with one number of threads, workers and processes.

    Args:
        task: what is trained.
        course: how.
        device: where.
        bf16: multiply in bfloat16.
        workers: processes that read ahead.
        ranks: which process of a training in several this is.
    """

    def __init__(
        self,
        task: Task[B],
        course: Course,
        device: torch.device,
        bf16: bool = False,
        workers: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        self.task, self.course, self.device, self.bf16, self.workers = task, course, device, bf16, workers
        self.ranks = ranks or Ranks()
        task.network.to(device)
        self.trained = [value for value in task.network.parameters() if value.requires_grad]
        self.module = self.ranks.parallel(task.network)
        self.optimiser = torch.optim.AdamW(task.groups(), lr=course.rate, weight_decay=course.decay)
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}

    def run(
        self, folder: Path, asked: dict[str, Any], state: Checkpoint | None = None, told: Told | None = None
    ) -> None:
        """Train until the last round, or until validation has not become better for long; then take the best round.

        Args:
            folder: for curves and the checkpoint, which are written after each round.
            asked: what decides the result, kept with the checkpoint.
            state: where an interrupted training was.
            told: called after each round.
        """
        if state is not None:
            self.task.load(state.network)
            self.optimiser.load_state_dict(state.optimiser)
            self.rows, self.best = state.rows, state.best
        while len(self.rows) < self.course.rounds and not self._patience_is_over():
            self.rows.append(self.round(len(self.rows)))
            if self.best_round == len(self.rows) - 1:
                self.best = {name: value.detach().cpu().clone() for name, value in self.task.state().items()}
            if self.ranks.first:
                write_curves(folder, self.rows)
                network, optimiser = self.task.state(), self.optimiser.state_dict()
                write_checkpoint(folder, Checkpoint(asked, network, optimiser, self.best, self.rows))
                if told is not None:
                    told(self.rows[-1], self.course.rounds)
            self.ranks.wait()
        self.task.load(self.best)

    def round(self, number: int) -> dict[str, float]:
        """The steps of a round, then validation: a row of the curves."""
        start = time.perf_counter()
        batches = self.course.order.of_round(number)
        steps = [self._parts(batch) for batch in batches]
        loader = DataLoader(
            self.task.dataset(number),
            batch_sampler=[part.cases for parts in steps for part in parts],
            collate_fn=self.task.collated,
            num_workers=self.workers,
        )
        losses = []
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.course.seed * 1_000_003 + number)
            self.module.train()
            loaded = iter(loader)
            for step, parts in enumerate(steps):
                losses.append(self._step(loaded, parts, self._share(number, step, len(steps))))
        found = self._found()
        rate = self.optimiser.param_groups[0]["lr"]
        seconds = time.perf_counter() - start
        row = {"epoch": number + 1, "loss": float(np.mean(losses))}
        measured = {self.task.measure: self.task.score(found), **self.task.noted(found)}
        return row | measured | {"rate": rate, "seconds": seconds}

    def validate(self) -> float:
        """The task's measure, of what all processes find for their shares."""
        return self.task.score(self._found())

    def _found(self) -> dict[str, Any]:
        """What all processes find for their shares, by the same statistics of batch norms."""
        self.ranks.average(_statistics(self.task.network))
        self.task.network.eval()
        share = self.ranks.share(self.task.to_validate)
        return self.ranks.gathered(self.task.validated(share, self.device, self.bf16))

    @property
    def best_round(self) -> int:
        """Of the rounds there were, the one with the best measure, from 0."""
        later = 1 if self.task.later_of_equals else -1
        better = -1 if self.task.less_is_better else 1
        measured = [better * row[self.task.measure] for row in self.rows]
        return max(range(len(self.rows)), key=lambda number: (measured[number], later * number))

    def summary(self) -> dict[str, Any]:
        """How it went."""
        best = self.rows[self.best_round]
        measure = self.task.measure
        seconds = sum(row["seconds"] for row in self.rows)
        return {"epochs": len(self.rows), "best_epoch": best["epoch"], measure: best[measure], "seconds": seconds}

    def _parts(self, batch: Sequence[int]) -> list[_Part]:
        """What this process computes of a batch, one after the other, each with its weight in the mean.

        A process without a case computes one of another's with weight 0: all have to average their gradients.
        """
        own, weight = self.ranks.share(batch), self.ranks.world / len(batch)
        if not own:
            return [_Part([batch[0]], 0.0)]
        size = self.course.at_once or len(own)
        parts = [own[first : first + size] for first in range(0, len(own), size)]
        return [_Part(part, len(part) * weight) for part in parts]

    def _step(self, loaded: Iterator[B], parts: Sequence[_Part], share: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.course.rate * group.get("lr_scale", 1.0) * share
        self.optimiser.zero_grad()
        total = 0.0
        for number, part in enumerate(parts, start=1):
            batch = self.task.on(next(loaded), self.device)
            with self._averaging(number == len(parts)):
                with products_in_bf16(self.device, self.bf16):
                    outputs = self.module(batch)
                loss = self.task.loss(outputs, batch)
                (loss if part.weight == 1 else loss * part.weight).backward()
            total += float(loss.detach()) * part.weight
        if self.course.clip is not None:
            nn.utils.clip_grad_norm_(self.trained, self.course.clip)
        self.optimiser.step()
        return total

    def _averaging(self, last: bool) -> Any:
        """Gradients are averaged over the processes with the last part of a batch."""
        return nullcontext() if last or self.ranks.world == 1 else self.module.no_sync()  # type: ignore[operator]

    def _share(self, number: int, step: int, steps: int) -> float:
        return self.course.shares(number if self.course.by_round else number * steps + step)

    def _patience_is_over(self) -> bool:
        if self.course.patience is None or not self.rows:
            return False
        return len(self.rows) - 1 - self.best_round >= self.course.patience


def _statistics(network: nn.Module) -> Iterator[Tensor]:
    """Running means and variances of batch norms that learn: every process has those of its own share."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.running_mean is not None:
            assert module.running_var is not None
            yield from (module.running_mean, module.running_var)


@dataclass(frozen=True)
class _Part:
    cases: list[int]
    weight: float

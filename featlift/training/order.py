"""In which order cases are seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Order:
    """Cases drawn without replacement: each once before any comes again.

    Attributes:
        count: of cases.
        batch: cases of a step.
        seed: of the order; each pass over the cases has one of its own.
        steps: of a round; None makes a round one pass, whose last batch is what is left.
    """

    count: int
    batch: int
    seed: int
    steps: int | None = None

    @property
    def steps_of_a_round(self) -> int:
        """How many steps there are between two validations."""
        return self.steps or -(-self.count // self.batch)

    def of_round(self, number: int) -> list[list[int]]:
        """The cases of each step of a round, counted from 0. They depend on the number and the seed alone."""
        if self.steps is None:
            order = self._pass(number)
            return [order[first : first + self.batch] for first in range(0, self.count, self.batch)]
        first = number * self.steps * self.batch
        last = first + self.steps * self.batch
        passes = range(first // self.count, -(-last // self.count))
        stream = [case for one in passes for case in self._pass(one)][first - passes.start * self.count :]
        return [stream[start : start + self.batch] for start in range(0, last - first, self.batch)]

    def _pass(self, number: int) -> list[int]:
        order: list[int] = np.random.default_rng([self.seed, number]).permutation(self.count).tolist()
        return order

"""How the learning rate goes: up in a line, down as a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmUpCosine:
    """A linear rise, then half a cosine, as parts of the highest rate.

    Attributes:
        steps: in all.
        warm_up: of them, those in which the rate rises; the first step after them has the highest.
        first: where the rise begins; None begins a step above zero, so that the last step of the rise is the highest.
        last: where the cosine ends, a step beyond the last one.
    """

    steps: int
    warm_up: int
    first: float | None = None
    last: float = 0.0

    def __call__(self, step: int) -> float:
        """The part that a step has, counted from 0."""
        if step < self.warm_up:
            if self.first is None:
                return (step + 1) / self.warm_up
            return self.first + (1 - self.first) * step / self.warm_up
        falling = max(1, self.steps - self.warm_up)
        return self.last + (1 - self.last) * (1 + math.cos(math.pi * (step - self.warm_up) / falling)) / 2

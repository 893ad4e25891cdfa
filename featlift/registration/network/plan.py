"""What a registration network was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from featlift.errors import OptionError

#: What the network sees of both scans: principal components of stored features, MIND, prepared intensities.
Input = Literal["features", "mind", "intensity"]
#: How scans are compared: squared distance of what is seen, or local correlation of intensities.
Loss = Literal["mse", "lncc"]

#: Of the regulariser: ConvexAdam's for features at its distance, VoxelMorph's for correlations.
_WEIGHTS = {"mse": 1.25, "lncc": 1.0}


@dataclass(frozen=True)
class NetworkPlan:
    """How a registration network is made and trained. All of it decides the result; where it runs does not.

    Attributes:
        inputs: what it sees, one or several of `Input`, each an equal part of the distance.
        loss: how scans are compared.
        weight: of the diffusion regulariser; None has 1.25 with ``mse`` and 1 with ``lncc``.
        components: principal components of features, fitted on the training cases.
        spacing: millimetres of the grid; None takes the median of the shortest ones of the training scans.
        radius: of MIND's patches.
        dilation: how far apart MIND's patches lie.
        iterations: steps of training, at most.
        every: from one validation to the next.
        batch: pairs of a step.
        rate: highest learning rate; VoxelMorph's.
        decay: AdamW's; none is Adam.
        warm_up: iterations in which the rate rises.
        patience: validations without a better one after which training ends; None trains to the end.
        seed: of weights, order and random pairs.
    """

    inputs: tuple[Input, ...] = ("features",)
    loss: Loss = "mse"
    weight: float | None = None
    components: int = 24
    spacing: float | None = None
    radius: int = 1
    dilation: int = 2
    iterations: int = 10_000
    every: int = 250
    batch: int = 1
    rate: float = 1e-4
    decay: float = 0.0
    warm_up: int = 100
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        known = get_args(Input)
        if not self.inputs or set(self.inputs) - set(known):
            raise OptionError(f"input {', '.join(self.inputs) or 'nothing'}: give one or more of {', '.join(known)}")
        object.__setattr__(self, "inputs", tuple(name for name in known if name in self.inputs))
        if self.loss not in _WEIGHTS:
            raise OptionError(f"loss {self.loss!r}: choose {', '.join(_WEIGHTS)}")
        if self.weight is None:
            object.__setattr__(self, "weight", _WEIGHTS[self.loss])
        if min(self.components, self.radius, self.dilation, self.iterations, self.every, self.batch) < 1:
            raise OptionError("components, radius, dilation, iterations, every and batch: give at least 1")
        if self.spacing is not None and not 0 < self.spacing < 1000:
            raise OptionError(f"spacing {self.spacing}: give millimetres")
        if not self.rate > 0 or self.decay < 0 or not 0 <= (self.weight or 0) < float("inf"):
            raise OptionError(f"rate {self.rate}, decay {self.decay}, weight {self.weight}: give positive numbers")
        if not 0 <= self.warm_up < self.iterations:
            raise OptionError(f"warm-up {self.warm_up}: less than the {self.iterations} iterations")
        if self.patience is not None and self.patience < 1:
            raise OptionError(f"patience {self.patience}: give a number from 1")

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON would give it back."""
        return {**asdict(self), "inputs": list(self.inputs)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> NetworkPlan:
        """What `as_json` gave."""
        return cls(**{**values, "inputs": tuple(values["inputs"])})

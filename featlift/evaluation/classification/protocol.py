"""Which probe of volumes is trained, and how it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from featlift.errors import OptionError
from featlift.metrics.classification import SPECIFICITY
from featlift.metrics.classification_bootstrap import RESAMPLES

SEEDS = (0, 1, 2, 3, 4)

Name = Literal["logistic", "planecycle", "ct-rate", "abmil"]
#: What is in the bag of a case: a vector for each slice, for each cell of its dense features, or all of these.
BagOf = Literal["slices", "patches", "both"]
#: How a bag becomes one vector: weighted by gated attention, or as controls the plain mean or the largest values.
Pooling = Literal["attention", "mean", "max"]


@dataclass(frozen=True)
class BagProbe:
    """The settings of the protocol ``abmil`` alone, see docs/how-to/abmil.md.

    Attributes:
        bag: what is in it.
        pooling: how it becomes one vector.
        hidden: D, channels that instances are projected to.
        gate: width of the attention's hidden layer.
        instances: most of a bag that are drawn in a training step; all of them are scored.
        layer: absolute index of the features; None takes the deepest.
    """

    bag: BagOf = "slices"
    pooling: Pooling = "attention"
    hidden: int = 128
    gate: int = 64
    instances: int = 2_048
    layer: int | None = None

    def __post_init__(self) -> None:
        for option, value, words in (("bag", self.bag, BagOf), ("pooling", self.pooling, Pooling)):
            if value not in get_args(words):
                raise OptionError(f"{option} {value!r}: choose {', '.join(get_args(words))}")
        for option in ("hidden", "gate", "instances"):
            if getattr(self, option) < 1:
                raise OptionError(f"{option} {getattr(self, option)}: at least 1")


@dataclass(frozen=True)
class Probe:
    """Which probe, see docs/reference/probe.md.

    Attributes:
        name: ``logistic``, ``planecycle``, ``ct-rate`` or ``abmil``.
        wanted: what of the features, see `input_of`.
        seeds: of the trainings; ``logistic`` draws nothing.
        iterations: instead of the published number, for trials.
        specificity: at which sensitivity is read.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        bags: settings of ``abmil``, None for its defaults.
    """

    name: Name = "planecycle"
    wanted: str | None = None
    seeds: tuple[int, ...] = SEEDS
    iterations: int | None = None
    specificity: float = SPECIFICITY
    seed: int = 0
    resamples: int = RESAMPLES
    bags: BagProbe | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise OptionError(f"protocol {self.name!r}: choose {', '.join(get_args(Name))}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise OptionError(f"seeds {self.seeds}: give at least one, and none twice")
        if self.iterations is not None and (self.iterations < 1 or self.name == "logistic"):
            raise OptionError("iterations: at least 1, and logistic has none: it runs until it has converged")
        if self.bags is not None and self.name != "abmil":
            given = [option for option, value in vars(BagProbe()).items() if getattr(self.bags, option) != value]
            raise OptionError(f"{', '.join(given) or 'bags'}: of protocol abmil, not of {self.name}")

"""What a pretraining was asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from featlift.encoders.threedme import ThreeDMEConfig
from featlift.errors import OptionError
from featlift.pretraining.losses import Edges
from featlift.pretraining.masking import STAGES, Stage, parse_stages, rounds_of

#: Sizes of the encoder.
Size = Literal["base", "tiny"]

_SIZES = {"base": ThreeDMEConfig.base, "tiny": ThreeDMEConfig.tiny}


@dataclass(frozen=True)
class PretrainPlan:
    """How an encoder is pretrained. All of it decides the result; where it runs does not.

    Attributes:
        encoder: ``base`` is the paper's, ``tiny`` sees 64³ voxels and is a quarter as wide.
        options: of the encoder, see `ThreeDMEConfig`.
        side: of the cubes of scan that it is shown, in voxels; None takes the encoder's.
        stages: of masking, see `parse_stages`.
        losses: weights of reconstruction, semantics and edges; 0 leaves one out.
        edges: what the Dice of edges is divided by.
        background: share of a crop that may be background at most.
        dark: voxels are background up to this part of their scan's range.
        iterations: steps of training.
        every: from one validation to the next; a stage is a whole number of such rounds.
        batch: crops of a step.
        at_once: of these, in memory together, gradients being added up; None takes all.
        rate: highest learning rate.
        decay: AdamW's.
        warm_up: iterations in which the rate rises.
        clip: of the norm of all gradients together; 0 for none.
        checkpointing: whether blocks keep their input alone for the way back.
        seed: of weights, order, crops and masks.
    """

    encoder: Size = "base"
    options: Mapping[str, Any] = field(default_factory=dict)
    side: int | None = None
    stages: str = STAGES
    losses: tuple[float, ...] = (0.7, 0.2, 0.1)
    edges: Edges = "squares"
    background: float = 0.9
    dark: float = 0.05
    iterations: int = 20_000
    every: int = 250
    batch: int = 16
    at_once: int | None = None
    rate: float = 2e-4
    decay: float = 0.05
    warm_up: int = 500
    clip: float = 1.0
    checkpointing: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("encoder", Size), ("edges", Edges)):
            if getattr(self, name) not in get_args(kind):
                raise OptionError(f"{name} {getattr(self, name)!r}: choose {', '.join(get_args(kind))}")
        if len(self.losses) != 3 or min(self.losses) < 0 or not 0 < sum(self.losses) < float("inf"):
            raise OptionError(f"losses {self.losses}: give weights of reconstruction, semantics and edges, 0 for none")
        if min(self.iterations, self.every, self.batch, self.at_once or 1) < 1:
            raise OptionError("iterations, every, batch and at once: give at least 1")
        if not 0 < self.background <= 1 or not 0 <= self.dark < 1:
            raise OptionError(f"background {self.background}, dark {self.dark}: give parts of one")
        if not self.rate > 0 or self.decay < 0 or self.clip < 0:
            raise OptionError(f"rate {self.rate}, decay {self.decay}, clip {self.clip}: give positive numbers")
        if not 0 <= self.warm_up < self.iterations:
            raise OptionError(f"warm-up {self.warm_up}: less than the {self.iterations} iterations")
        object.__setattr__(self, "stages", ",".join(map(str, parse_stages(self.stages))))  # in one spelling
        rounds_of(self.masking, self.rounds)
        if self.side is None:
            object.__setattr__(self, "side", self.config.size)
        size = self.config.size
        for stage in self.masking:
            cubes = math.prod(stage.grid((size, size, size)))
            if not 0 < (masked := stage.masked(cubes)) < cubes:
                raise OptionError(f"the stage of {stage.name}, masks {masked} of {cubes} cubes of a crop of {size}³")

    @property
    def config(self) -> ThreeDMEConfig:
        """The encoder's, with the crop as its size; a ModelError where they make no network."""
        size = {} if self.side is None else {"size": self.side}
        try:
            return _SIZES[self.encoder](**{**self.options, **size})
        except TypeError as error:
            raise OptionError(f"an option of 3dme that there is not: {error}") from error

    @property
    def masking(self) -> tuple[Stage, ...]:
        """The stages, one after the other."""
        return parse_stages(self.stages)

    @property
    def steps(self) -> int:
        """Of a round."""
        return min(self.every, self.iterations)

    @property
    def rounds(self) -> int:
        """Of the training: what is begun is finished."""
        return -(-self.iterations // self.steps)

    def stage_of(self, number: int) -> tuple[int, Stage]:
        """The stage of a round, and its number; both are counted from 0."""
        ends = rounds_of(self.masking, self.rounds)
        at = next(index for index, end in enumerate(ends) if number < end)
        return at, self.masking[at]

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON would give it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PretrainPlan:
        """What `as_json` gave."""
        return cls(**{**values, "losses": tuple(values["losses"])})

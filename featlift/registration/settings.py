"""How two scans are registered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from featlift.errors import OptionError
from featlift.registration.affine import AffineStage
from featlift.registration.body import Body
from featlift.registration.convex_adam import ConvexAdam
from featlift.registration.mind import CHANNELS

#: What scans are compared by.
Compared = Literal["mind", "model", "both"]


@dataclass(frozen=True)
class PairSettings:
    """How two scans are registered.

    Attributes:
        features: ``mind`` of the scans, those of a ``model``, or ``both``.
        spacing: millimetres of the common grid; None takes the shortest of the fixed scan's, or as much more as
            `memory` asks for.
        radius: of MIND's patches.
        dilation: how far apart MIND's patches lie.
        components: principal components of a model's features.
        centred: see `featlift.registration.features.principal_features`.
        convex_adam: of the optimisation.
        layer: of a model's features, its absolute index; None takes the deepest.
        affine: what comes before it, see `featlift.registration.affine.AffineStage`.
        body: which places count, see `featlift.registration.body.Body`.
        memory: bytes that the common grid is made for where `spacing` is None; None for 8 GB, or what is free.
    """

    features: Compared = "mind"
    spacing: float | None = None
    radius: int = 1
    dilation: int = 2
    components: int = 24
    centred: bool = True
    convex_adam: ConvexAdam = field(default_factory=ConvexAdam)
    layer: int | None = None
    affine: AffineStage = "none"
    body: Body = "none"
    memory: int | None = None

    @property
    def channels(self) -> int:
        """How many channels of features there are at most."""
        return (self.features != "model") * CHANNELS + (self.features != "mind") * self.components

    @property
    def needs_scans(self) -> bool:
        """Whether the voxels of the scans count, rather than features alone."""
        return self.features != "model" or self.affine in ("moments", "intensity") or self.body == "otsu"

    @property
    def needs_model(self) -> bool:
        """Whether features of a network are made."""
        return self.features != "mind" or self.affine == "features"

    def __post_init__(self) -> None:
        if self.features not in get_args(Compared):
            raise OptionError(f"features {self.features!r}: choose one of {', '.join(get_args(Compared))}")
        if self.affine not in get_args(AffineStage):
            raise OptionError(f"affine {self.affine!r}: choose one of {', '.join(get_args(AffineStage))}")
        if self.body not in get_args(Body):
            raise OptionError(f"body {self.body!r}: choose one of {', '.join(get_args(Body))}")
        if self.spacing is not None and not 0 < self.spacing < 1000:
            raise OptionError(f"spacing {self.spacing}: give millimetres")
        if min(self.radius, self.dilation, self.components) < 1:
            raise OptionError("radius, dilation and components: give at least 1")
        if self.layer is not None and not self.needs_model:
            raise OptionError(f"layer {self.layer}: MIND has none, compare features model or both")

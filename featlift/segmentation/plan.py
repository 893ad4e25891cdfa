"""What a training was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from featlift.errors import OptionError
from featlift.segmentation.instances.settings import AffinitySettings
from featlift.segmentation.networks.catalogue import head_class

#: ``store``: as they were extracted. ``random``: Gaussian ones on the same grid, with which a head sees nothing.
#: ``none``: none at all.
Features = Literal["store", "random", "none"]

#: Predicted voxels a side of a patch, or along d, h and w, at most.
Patch = int | tuple[int, ...]

_OF_AFFINITIES = ("linear", "decoder", "dino3dra")


@dataclass(frozen=True)
class Plan:
    """How a head is made and trained. All of it decides the result; where it runs does not.

    Attributes:
        head: name, see `featlift.segmentation.HEADS`.
        options: its own, see `Head.options`; what is not given has its default.
        layers: absolute indices of stored layers; none takes the deepest.
        features: ``store``, ``random`` or ``none``.
        step: voxels of the stored scan for each predicted one in-plane; None is as coarse as the masks are.
        patch: predicted voxels a side of a patch, or along d, h and w, at most; heads that train on whole volumes have
            none.
        epochs: at most; in each, every training case is seen once, of affinities in as many patches as it holds.
        batch: patches in a step; group norms need no more than one.
        rate: learning rate after the warm-up; None is the head's own.
        decay: AdamW's, of weights.
        warm_up: share of the steps in which the learning rate rises; afterwards it falls as a cosine.
        patience: epochs without a better validation after which training ends.
        noise: standard deviation of the noise on standardised features.
        seed: of weights, patches and augmentation.
        affinities: what is learnt in the place of labels; None learns labels.
    """

    head: str
    options: dict[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] = ()
    features: Features = "store"
    step: int | None = None
    patch: Patch = 64
    epochs: int = 50
    batch: int = 1
    rate: float | None = None
    decay: float = 0.01
    warm_up: float = 0.05
    patience: int = 15
    noise: float = 0.1
    seed: int = 0
    affinities: AffinitySettings | None = None

    def __post_init__(self) -> None:
        needs = head_class(self.head, self.options).needs
        if self.features not in get_args(Features):
            raise OptionError(f"features {self.features!r}: choose {', '.join(get_args(Features))}")
        if self.features == "none" and "dense" in needs:
            raise OptionError(f"--features none: the head {self.head} sees nothing else; dino3dra is a U-Net without")
        if self.affinities is not None:
            self._check_affinities()
        sides = self.patch if isinstance(self.patch, tuple) else (self.patch,)
        if len(sides) not in (1, 3):
            raise OptionError(f"--patch {','.join(map(str, sides))}: give one number, or three along d,h,w")
        if min(*sides, self.epochs, self.batch, self.patience) < 1:
            raise OptionError("patch, epochs, batch and patience: give numbers from 1")
        if (self.rate is not None and not self.rate > 0) or self.decay < 0 or self.noise < 0:
            raise OptionError(
                f"learning rate {self.rate}, decay {self.decay}, noise {self.noise}: give positive numbers"
            )
        if not 0 <= self.warm_up < 1:
            raise OptionError(f"warm-up {self.warm_up}: give a share of the steps, below 1")

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON would give it back."""
        held = {name: _listed(value) for name, value in asdict(self).items()}
        if self.affinities is None:
            del held["affinities"]
        return held

    def _check_affinities(self) -> None:
        if self.head not in _OF_AFFINITIES:
            raise OptionError(f"--head {self.head} finds labels; affinities are of {', '.join(_OF_AFFINITIES)}")
        if self.step not in (None, 1):
            raise OptionError(f"--step {self.step} is of labels: affinities are of the voxels of the scan")


def _listed(value: Any) -> Any:
    """Tuples as the lists that JSON would give back."""
    if isinstance(value, dict):
        return {name: _listed(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value

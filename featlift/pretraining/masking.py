"""Cubes of voxels that are blotted out, larger and more of them from stage to stage (3DME)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.volumes.grid import Shape

#: The paper's cubes and shares; how long each stage lasts it does not say, so all last alike.
STAGES = "4:0.3,8:0.45,12:0.6,16:0.75"


@dataclass(frozen=True)
class Stage:
    """How volumes are masked for a part of the training.

    Attributes:
        cube: side of a cube in voxels.
        ratio: of the cubes that are masked.
        length: part of the training that it lasts.
    """

    cube: int
    ratio: float
    length: float

    def __str__(self) -> str:
        return f"{self.cube}:{self.ratio:g}:{self.length:g}"

    def grid(self, shape: Shape) -> Shape:
        """Cubes along d, h and w of a volume, the last ones perhaps clipped."""
        d, h, w = (-(-size // self.cube) for size in shape)
        return d, h, w

    def masked(self, cubes: int) -> int:
        """How many of so many cubes are masked."""
        return int(self.ratio * cubes + 0.5)

    @property
    def name(self) -> str:
        """For people."""
        return f"cubes of {self.cube}³, {100 * self.ratio:g} % masked"


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Read ``CUBE:RATIO`` of each stage with commas between, or ``CUBE:RATIO:LENGTH``.

    Lengths are parts of the training in any unit; without them all stages are of one length.

    Raises:
        OptionError: the text is no such list, or lengths are given of some stages only.
    """
    try:
        parts = [[float(value) for value in stage.split(":")] for stage in text.split(",")]
    except ValueError as error:
        raise OptionError(f"stages {text!r}: {_FORM}") from error
    if len({len(part) for part in parts}) != 1 or len(parts[0]) not in (2, 3):
        raise OptionError(f"stages {text!r}: {_FORM}")
    lengths = [part[2] if len(part) == 3 else 1.0 for part in parts]
    if not all(part[0] >= 1 and part[0] % 1 == 0 and 0 < part[1] < 1 for part in parts):
        raise OptionError(f"stages {text!r}: cubes have whole sides, and ratios lie between 0 and 1")
    if not all(0 < length < float("inf") for length in lengths):
        raise OptionError(f"stages {text!r}: lengths are above 0")
    return tuple(
        Stage(int(part[0]), part[1], length / sum(lengths)) for part, length in zip(parts, lengths, strict=True)
    )


_FORM = f"give CUBE:RATIO of each, as {STAGES}, or CUBE:RATIO:LENGTH of all"


def rounds_of(stages: Sequence[Stage], rounds: int) -> list[int]:
    """In which round of a training each stage ends, exclusive.

    Raises:
        OptionError: a stage would not last a round.
    """
    ends = [round(end * rounds) for end in np.cumsum([stage.length for stage in stages])]
    for stage, first, last in zip(stages, [0, *ends], ends, strict=False):
        if last <= first:
            raise OptionError(
                f"the stage of {stage.name}, lasts none of {rounds} rounds: give more iterations, or a smaller --every"
            )
    return ends


def mask_of(order: NDArray[np.integer], stage: Stage, shape: Shape) -> NDArray[np.bool_]:
    """The voxels that are masked when cubes are taken in this order.

    Cubes are counted row by row; those at the far ends are clipped where their side does not divide the volume. The
    first ``floor(ratio * cubes + 0.5)`` of the order are masked.

    Args:
        order: of all cubes, by their numbers.
        stage: says the side of the cubes, and how many.
        shape: (D, H, W) of the volume.

    Returns:
        ``(D, H, W)``, true where masked.
    """
    grid = stage.grid(shape)
    masked = np.zeros(math.prod(grid), np.bool_)
    masked[order[: stage.masked(masked.size)]] = True
    voxels = masked.reshape(grid)
    for axis, size in enumerate(shape):
        voxels = voxels.repeat(stage.cube, axis)[(slice(None),) * axis + (slice(size),)]
    return voxels


def drawn_mask(stage: Stage, shape: Shape, draw: np.random.Generator) -> NDArray[np.bool_]:
    """`mask_of` an order that is drawn.

    Args:
        stage: how to mask.
        shape: (D, H, W) of the volume.
        draw: random numbers.
    """
    return mask_of(draw.permutation(math.prod(stage.grid(shape))), stage, shape)

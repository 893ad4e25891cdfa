"""Two scans on one grid, as a network sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.registration.common_grid import shrunk
from featlift.registration.comparing import mind_of
from featlift.registration.features import Pair, at_typical_distance, on_common_grid, side_by_side
from featlift.registration.network.plan import NetworkPlan
from featlift.registration.network.subjects import Subject
from featlift.registration.network.unet import MULTIPLE, PairBatch
from featlift.volumes import Volume
from featlift.volumes.grid import Shape, on_grid
from featlift.volumes.volume import Affine, scaled, spacing_of


@dataclass(frozen=True, eq=False)
class Meeting:
    """Two scans on one grid.

    Attributes:
        seen: what the network sees of both, ``(C, D, H, W)`` each, at MIND's typical distance.
        grey: intensities of both, ``(1, D, H, W)``.
        affine: of the grid.
        inner: where on the grid the fixed scan's own voxels are.
    """

    seen: Pair
    grey: Pair
    affine: Affine
    inner: tuple[slice, slice, slice]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Of the grid along (d, h, w), in millimetres."""
        return spacing_of(self.affine)

    @property
    def edges(self) -> list[float]:
        """Of a voxel along (d, h, w), 1 for the shortest along an axis of several voxels."""
        several = [step for step, size in zip(self.spacing, self.grey[0].shape[1:], strict=True) if size > 1]
        return [length / min(several) for length in self.spacing]


def padded_shape(shape: Shape, least: Shape = (1, 1, 1)) -> Shape:
    """A grid that a network takes: multiples of 16 voxels, but for an axis of one; none smaller than `least`.

    Raises:
        OptionError: a slice where the network sees volumes, or a volume where it sees slices.
    """
    if any((size == 1) != (other == 1) for size, other in zip(shape, least, strict=True)) and least != (1, 1, 1):
        raise OptionError(
            f"a scan of {_times(shape)} voxels on the grid, and the network's is {_times(least)}: slices and volumes "
            "are not mixed"
        )
    d, h, w = (1 if size == 1 else max(size + -size % MULTIPLE, low) for size, low in zip(shape, least, strict=True))
    return d, h, w


def meet(fixed: Subject, moving: Subject, plan: NetworkPlan, spacing: float, least: Shape = (1, 1, 1)) -> Meeting:
    """Bring two scans onto one grid in the space of the fixed one.

    Its voxels are those that `featlift.registration.register` would take, with as many more on each side as it takes to
    reach multiples of 16 and the shape `least`. Where a scan ends, its outermost voxels are continued.

    Args:
        fixed: a scan.
        moving: another, which overlaps it as it lies.
        plan: what is seen of them.
        spacing: of the grid in millimetres.
        least: (D, H, W) of the smallest grid.

    Raises:
        OptionError: see `padded_shape`.
    """
    image, affine = shrunk(Volume(fixed.image), fixed.affine, spacing, grow=True)
    d, h, w = image.shape
    grid = padded_shape((d, h, w), least)
    before = [(to - now) // 2 for to, now in zip(grid, image.shape, strict=True)]
    onto = scaled(affine, (1, 1, 1), tuple(-count for count in before))
    one = on_grid(image, affine, grid, onto, order=1, fill_value=None)
    other = on_grid(*shrunk(Volume(moving.image), moving.affine, spacing), grid, onto, order=1, fill_value=None)
    first, second, third = (slice(start, start + now) for start, now in zip(before, image.shape, strict=True))
    parts = [_part(name, (one, other), (fixed, moving), plan, grid, onto) for name in plan.inputs]
    grey = torch.from_numpy(one)[None], torch.from_numpy(other)[None]
    return Meeting(side_by_side(parts), grey, onto, (first, second, third))


def batch_of(meetings: list[Meeting]) -> PairBatch:
    """Pairs on grids of one shape, as one batch."""
    return PairBatch(
        torch.stack([torch.cat(meeting.seen) for meeting in meetings]),
        torch.stack([torch.cat(meeting.grey) for meeting in meetings]),
        torch.tensor([meeting.edges for meeting in meetings], dtype=torch.float32),
        [meeting.inner for meeting in meetings],
    )


def _part(
    name: str,
    images: tuple[NDArray[np.float32], NDArray[np.float32]],
    subjects: tuple[Subject, Subject],
    plan: NetworkPlan,
    grid: Shape,
    onto: Affine,
) -> Pair:
    """One of the inputs, of both scans."""
    if name == "mind":
        one, two = (mind_of(image, plan.radius, plan.dilation) for image in images)
        return one, two
    if name == "intensity":
        middle = (images[0].mean() + images[1].mean()) / 2
        one, two = (torch.from_numpy(image - middle)[None] for image in images)
        return at_typical_distance(one, two)
    cells = []
    for subject in subjects:
        assert subject.cells is not None
        assert subject.cells_affine is not None
        cells.append(on_common_grid(subject.cells, subject.cells_affine, grid, onto))
    return at_typical_distance(cells[0], cells[1])


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape))

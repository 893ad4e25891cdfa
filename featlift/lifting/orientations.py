"""Three orientations: a volume is lifted with each of its axes as depth, and the features meet on one grid.

An axial pass is sharp within axial planes and knows little along its depth; so are the others along theirs. Brought
together on a common grid they complete each other, without training; Raptor does so for pooled vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from featlift.backbones.sampling import FeatureLayer, Triple
from featlift.errors import LiftingError
from featlift.lifting.around import AroundLifted
from featlift.lifting.features import Features, LayerFeatures
from featlift.lifting.lifted import LiftedBackbone

Orientation = Literal["axial", "coronal", "sagittal"]
Fuse = Literal["concat", "mean"]

#: Which axis of (D, H, W) is depth, then which are rows and columns of the planes.
_AXES: dict[str, Triple] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
_CHANNELS_AT_ONCE = 64


class OrientedBackbone(AroundLifted):
    """A lifted backbone that sees a volume along several axes.

    ``OrientedBackbone(featlift.lift(backbone), ("axial", "coronal", "sagittal"))`` is a `VolumeEncoder`.

    Voxels are isotropic. For each orientation its planes are enlarged so that a patch covers two cells of the common
    grid, and every `step`-th of them is lifted; features are interpolated linearly at the centres of the cells.

    Attributes:
        lifted: lifts each orientation.
        orientations: in their order.
        cell: voxels of a cell of the common grid, along each axis.
        step: voxels from one plane that is lifted to the next; as many as a cell has, unless another is given.
        fuse: ``concat`` puts channels of the orientations one after the other, ``mean`` averages them.
    """

    def __init__(
        self,
        lifted: LiftedBackbone,
        orientations: Sequence[str],
        cell: int = 4,
        step: int | None = None,
        fuse: str = "concat",
    ) -> None:
        if not orientations or set(orientations) - set(get_args(Orientation)):
            known = ", ".join(get_args(Orientation))
            raise LiftingError(f"orientations {','.join(orientations)!r}: choose of {known}")
        if len(set(orientations)) < len(orientations):
            raise LiftingError(f"orientations {','.join(orientations)!r}: one stands twice")
        if fuse not in get_args(Fuse):
            raise LiftingError(f"fuse {fuse!r}: choose {' or '.join(get_args(Fuse))}")
        step = cell if step is None else step
        if cell < 1 or step < 1 or 2 * cell % step:
            raise LiftingError(f"cell {cell}, step {step}: give at least 1, the step a divisor of two cells")
        self.lifted = lifted
        self.orientations = tuple(orientations)
        self.cell = cell
        self.step = step
        self.fuse = fuse

    @property
    def feature_layers(self) -> tuple[FeatureLayer, ...]:
        """See `VolumeEncoder`: all layers on the common grid."""
        parts = self.orientations if self.fuse == "concat" else ("mean",)
        offset = (self.cell - 1) / 2
        return tuple(
            replace(
                layer,
                channels=layer.channels * len(parts),
                parts=parts if len(parts) > 1 else (),
                stride=(self.cell, self.cell, self.cell),
                offset=(offset, offset, offset),
            )
            for layer in self.lifted.feature_layers
        )

    @property
    def tokens_per_slice(self) -> bool:
        """See `VolumeEncoder`: each orientation has other slices, so there is one set, of their means."""
        return False

    @property
    def size_multiple(self) -> Triple:
        """See `VolumeEncoder`: whole patches along every axis."""
        return 2 * self.cell, 2 * self.cell, 2 * self.cell

    def recipe(self) -> dict[str, Any]:
        """See `VolumeEncoder`."""
        own = {"orientations": list(self.orientations), "cell": self.cell, "step": self.step, "fuse": self.fuse}
        return {**self.lifted.recipe(), **own}

    def __call__(self, volume: Tensor) -> Features:
        """Lift volumes along each of the axes, one after the other.

        Args:
            volume: ``(B, 1 or 3, D, H, W)``, intensities in [0, 1]; D, H and W are multiples of two cells.

        Raises:
            LiftingError: another shape.
            LiftingMemoryError: a single plane does not fit in memory.
        """
        if any(size % (2 * self.cell) for size in volume.shape[2:]):
            sizes = " x ".join(map(str, volume.shape[2:]))
            raise LiftingError(f"a volume of {sizes} voxels: each has to be a multiple of {2 * self.cell}")
        grids = {layer.index: self._grid(layer, volume) for layer in self.feature_layers}
        tokens: dict[int, list[Tensor]] = {index: [] for index in grids}
        for number in range(len(self.orientations)):
            self._bring_pass(volume, number, grids, tokens)
        return Features({index: LayerFeatures(grid, self._fused(tokens[index])) for index, grid in grids.items()})

    def _bring_pass(
        self, volume: Tensor, number: int, grids: dict[int, Tensor], tokens: dict[int, list[Tensor]]
    ) -> None:
        """Lift one orientation and bring its features to the grids; nothing of it stays but that."""
        axes = _AXES[self.orientations[number]]
        features: Features = self.lifted(self.enlarged(volume, axes))
        for layer in self.lifted.feature_layers:
            found = features.layers.pop(layer.index)
            self._bring(found.dense, grids[layer.index], number, layer, axes, volume.shape[2:])
            tokens[layer.index].append(found.tokens.mean(dim=1, keepdim=True))

    def _grid(self, layer: FeatureLayer, volume: Tensor) -> Tensor:
        """Room for features of all orientations: the only thing that holds more than one of them."""
        lifted = self.lifted
        home = torch.device("cpu") if lifted.offload else lifted.device
        shape = (len(volume), layer.channels, *(size // self.cell for size in volume.shape[2:]))
        return torch.zeros(shape, dtype=lifted.backbone.dtype, device=home)

    @property
    def _enlargement(self) -> float:
        """Pixels of an enlarged plane for each voxel."""
        return self.lifted.stride / (2 * self.cell)

    def enlarged(self, volume: Tensor, axes: Triple) -> Tensor:
        """Planes of an orientation as the network sees them: of each a patch covers two cells.

        Args:
            volume: ``(B, C, D, H, W)``.
            axes: which of D, H and W is depth, and which are rows and columns of the planes.
        """
        turned = volume.permute(0, 1, *(2 + axis for axis in axes))[:, :, :: self.step]
        size = [round(length * self._enlargement) for length in turned.shape[3:]]
        planes = turned.transpose(1, 2).flatten(0, 1)
        planes = F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)
        return planes.view(len(turned), turned.shape[2], *planes.shape[1:]).transpose(1, 2)

    def _bring(
        self, dense: Tensor, grid: Tensor, number: int, layer: FeatureLayer, axes: Triple, voxels: Sequence[int]
    ) -> None:
        """Features ``(B, C, d, h, w)`` of an orientation to the cells of the common grid, a few channels at a time."""
        dense = dense.permute(0, 1, *(2 + axes.index(axis) for axis in range(3)))
        hats = []
        for axis, size in enumerate(voxels):
            along = axes.index(axis)
            first = 0.0 if along == 0 else (layer.offset[along] + 0.5) / self._enlargement - 0.5
            apart = self.step if along == 0 else layer.stride[along] / self._enlargement
            wanted = self.cell * torch.arange(size // self.cell) + (self.cell - 1) / 2
            hats.append(_hats(wanted, first, apart, dense.shape[2 + axis]).to(self.device, dense.dtype))
        room = grid[:, number * layer.channels :] if self.fuse == "concat" else grid
        for start in range(0, layer.channels, _CHANNELS_AT_ONCE):
            few = slice(start, min(start + _CHANNELS_AT_ONCE, layer.channels))
            there = torch.einsum("bcdhw,zd,yh,xw->bczyx", dense[:, few].to(self.device), *hats).to(grid.device)
            if self.fuse == "concat":
                room[:, few] = there
            else:
                room[:, few] += there / len(self.orientations)

    def _fused(self, tokens: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tokens), dim=-1) if self.fuse == "concat" else torch.stack(list(tokens)).mean(dim=0)


def _hats(wanted: Tensor, first: float, apart: float, count: int) -> Tensor:
    """Weights ``(wanted, count)`` of linear interpolation between places ``first + apart * i``; ends are repeated."""
    at = ((wanted - first) / apart).clamp(0, count - 1)
    return (1 - (at[:, None] - torch.arange(count)).abs()).clamp(min=0)

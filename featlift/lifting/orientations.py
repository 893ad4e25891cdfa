"""Three orientations: a volume is lifted with each of its axes as depth, and the features meet on one grid.

An axial pass is sharp within axial planes and knows little along its depth; so are the others along theirs. Brought
together on a common grid they complete each other, without training; Raptor does so for pooled vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from featlift.backbones.sampling import FeatureLayer, Triple
from featlift.errors import LiftingError
from featlift.lifting.features import Features, LayerFeatures
from featlift.lifting.lifted import LiftedBackbone

Orientation = Literal["axial", "coronal", "sagittal"]
Fuse = Literal["concat", "mean"]

#: Which axis of (D, H, W) is depth, then which are rows and columns of the planes.
_AXES: dict[str, Triple] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
_CHANNELS_AT_ONCE = 64


class OrientedBackbone:
    """A lifted backbone that sees a volume along several axes.

    ``OrientedBackbone(featlift.lift(backbone), ("axial", "coronal", "sagittal"))`` is a `VolumeEncoder`.

    Voxels are isotropic. For each orientation its planes are enlarged so that a patch covers two cells of the common
    grid, and every `step`-th of them is lifted; features are interpolated linearly at the centres of the cells.

    Attributes:
        lifted: lifts each orientation.
        orientations: in their order.
        cell: voxels of a cell of the common grid, along each axis.
        step: voxels from one plane that is lifted to the next.
        fuse: ``concat`` puts channels of the orientations one after the other, ``mean`` averages them.
    """

    def __init__(
        self, lifted: LiftedBackbone, orientations: Sequence[str], cell: int = 4, step: int = 2, fuse: str = "concat"
    ) -> None:
        if not orientations or set(orientations) - set(get_args(Orientation)):
            known = ", ".join(get_args(Orientation))
            raise LiftingError(f"orientations {','.join(orientations)!r}: choose of {known}")
        if len(set(orientations)) < len(orientations):
            raise LiftingError(f"orientations {','.join(orientations)!r}: one stands twice")
        if fuse not in get_args(Fuse):
            raise LiftingError(f"fuse {fuse!r}: choose {' or '.join(get_args(Fuse))}")
        if cell < 1 or step < 1 or 2 * cell % step:
            raise LiftingError(f"cell {cell}, step {step}: give at least 1, the step a divisor of two cells")
        self.lifted = lifted
        self.orientations = tuple(orientations)
        self.cell = cell
        self.step = step
        self.fuse = fuse

    @property
    def name(self) -> str:
        """See `VolumeEncoder`."""
        return self.lifted.name

    @property
    def feature_layers(self) -> tuple[FeatureLayer, ...]:
        """See `VolumeEncoder`: all layers on the common grid."""
        parts = len(self.orientations) if self.fuse == "concat" else 1
        offset = (self.cell - 1) / 2
        return tuple(
            replace(
                layer,
                channels=layer.channels * parts,
                stride=(self.cell, self.cell, self.cell),
                offset=(offset, offset, offset),
            )
            for layer in self.lifted.feature_layers
        )

    @property
    def token_names(self) -> tuple[str, ...]:
        """See `VolumeEncoder`."""
        return self.lifted.token_names

    @property
    def tokens_per_slice(self) -> bool:
        """See `VolumeEncoder`: each orientation has other slices, so there is one set, of their means."""
        return False

    @property
    def size_multiple(self) -> Triple:
        """See `VolumeEncoder`: whole patches along every axis."""
        return 2 * self.cell, 2 * self.cell, 2 * self.cell

    @property
    def normed(self) -> bool:
        """See `VolumeEncoder`."""
        return self.lifted.normed

    @property
    def device(self) -> torch.device:
        """See `VolumeEncoder`."""
        return self.lifted.device

    @property
    def weights(self) -> Mapping[str, str]:
        """See `VolumeEncoder`."""
        return self.lifted.weights

    def recipe(self) -> dict[str, Any]:
        """See `VolumeEncoder`."""
        own = {"orientations": list(self.orientations), "cell": self.cell, "step": self.step, "fuse": self.fuse}
        return {**self.lifted.recipe(), **own}

    def looking_at(self, offsets: Sequence[float | None] | None) -> OrientedBackbone:
        """See `VolumeEncoder`."""
        other = copy(self)
        other.lifted = self.lifted.looking_at(offsets)
        return other

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
        found: dict[int, list[LayerFeatures]] = {}
        for name in self.orientations:
            for index, layer in self._one(volume, _AXES[name]).items():
                found.setdefault(index, []).append(layer)
        return Features({index: self._fused(parts) for index, parts in found.items()})

    def _one(self, volume: Tensor, axes: Triple) -> dict[int, LayerFeatures]:
        """One orientation on the common grid."""
        turned = volume.permute(0, 1, *(2 + axis for axis in axes))[:, :, :: self.step]
        features = self.lifted(self._enlarged(turned))
        return {
            layer.index: LayerFeatures(
                self._on_grid(features.layers[layer.index].dense, layer, axes, volume.shape[2:]),
                features.layers[layer.index].tokens.mean(dim=1, keepdim=True),
            )
            for layer in self.lifted.feature_layers
        }

    @property
    def _enlargement(self) -> float:
        """Pixels of an enlarged plane for each voxel."""
        return self.lifted.stride / (2 * self.cell)

    def _enlarged(self, turned: Tensor) -> Tensor:
        """Planes ``(B, C, D, H, W)`` of which each patch covers two cells."""
        size = [round(length * self._enlargement) for length in turned.shape[3:]]
        planes = turned.transpose(1, 2).flatten(0, 1)
        planes = F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)
        return planes.view(turned.shape[0], turned.shape[2], *planes.shape[1:]).transpose(1, 2)

    def _on_grid(self, dense: Tensor, layer: FeatureLayer, axes: Triple, voxels: Sequence[int]) -> Tensor:
        """Features ``(B, C, d, h, w)`` of an orientation at the cells of the common grid, with the volume's axes."""
        dense = dense.permute(0, 1, *(2 + axes.index(axis) for axis in range(3)))
        hats = []
        for axis, size in enumerate(voxels):
            along = axes.index(axis)
            first = 0.0 if along == 0 else (layer.offset[along] + 0.5) / self._enlargement - 0.5
            apart = self.step if along == 0 else layer.stride[along] / self._enlargement
            wanted = self.cell * torch.arange(size // self.cell) + (self.cell - 1) / 2
            hats.append(_hats(wanted, first, apart, dense.shape[2 + axis]).to(dense))
        parts = [torch.einsum("bcdhw,zd,yh,xw->bczyx", part, *hats) for part in dense.split(_CHANNELS_AT_ONCE, dim=1)]
        return torch.cat(parts, dim=1)

    def _fused(self, parts: Sequence[LayerFeatures]) -> LayerFeatures:
        if self.fuse == "concat":
            dense, tokens = (torch.cat([getattr(part, name) for part in parts], axis) for name, axis in _CONCATENATED)
            return LayerFeatures(dense, tokens)
        dense, tokens = (torch.stack([getattr(part, name) for part in parts]).mean(dim=0) for name, _ in _CONCATENATED)
        return LayerFeatures(dense, tokens)


_CONCATENATED = (("dense", 1), ("tokens", -1))  # along the channels


def _hats(wanted: Tensor, first: float, apart: float, count: int) -> Tensor:
    """Weights ``(wanted, count)`` of linear interpolation between places ``first + apart * i``; ends are repeated."""
    at = ((wanted - first) / apart).clamp(0, count - 1)
    return (1 - (at[:, None] - torch.arange(count)).abs()).clamp(min=0)

"""A 2D backbone lifted to 3D: Algorithm 1 of PlaneCycle (arXiv 2603.04165), a few planes at a time.

Letters as in the paper: a volume of patch tokens x ``(B, D, H, W, C)`` and global tokens g ``(B, P, g, C)``, where P is
the number of planes in the current orientation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from featlift.backbones.backbone import Backbone, Layer
from featlift.errors import LiftingError
from featlift.lifting.features import Features, LayerFeatures
from featlift.lifting.planes import Cycle, Plane, from_planes, to_planes
from featlift.lifting.tokens import TokenPooling, pool_adaptive, pool_mean

Mode = Literal["2d", "3d", "pcm", "pcg"]

#: Values of the feature volume that run together. On a CPU small batches stay in the caches (measured best at about
#: 2048 tokens of a ViT-S); an accelerator wants to be filled.
_CPU_BATCH = 2048 * 384
_ACCELERATOR_BATCH = 65536 * 768


@dataclass(frozen=True)
class Run:
    """Consecutive blocks on one orientation between which no plane needs to hear of another."""

    plane: Plane
    blocks: range


class LiftedBackbone(nn.Module):
    """A 2D backbone that takes volumes. Make one with `featlift.lift`.

    Attributes:
        backbone: the 2D network; its weights are used as they are.
        mode: ``pcg``, ``pcm`` (PlaneCycle), ``2d`` (slice by slice) or ``3d`` (flattened).
        cycle: planes that the blocks take in turn; ``("HW",)`` in mode 2d.
        layers: layers that are returned, shallow to deep.
    """

    def __init__(
        self,
        backbone: Backbone,
        mode: Mode,
        cycle: Cycle,
        token_pooling: TokenPooling,
        layers: tuple[Layer, ...],
        normalise: bool,
        norm: bool,
        plane_batch: int | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.mode = mode
        self.cycle = cycle
        self.token_pooling = token_pooling
        self.layers = layers
        self.normalise = normalise
        self.norm = norm
        self.plane_batch = plane_batch
        self._runs = list(self._plan())

    def forward(self, volume: Tensor) -> Features:
        """Lift a batch of volumes.

        Args:
            volume: ``(B, 1 or 3, D, H, W)``, intensities in [0, 1] (already normalised ones with normalise=False);
                H and W must be multiples of the backbone's stride.

        Raises:
            LiftingError: another shape.
        """
        self._check(volume)
        with torch.set_grad_enabled(self._tracks_gradients(volume)):
            return self._flattened(volume) if self.mode == "3d" else self._planewise(volume)

    def _planewise(self, volume: Tensor) -> Features:
        features: dict[int, LayerFeatures] = {}
        leading, *runs = self._runs
        depth = volume.shape[2]
        x, g = self._embed(volume, leading.blocks)
        self._read(features, leading.blocks.stop, x, g, depth)
        for run in runs:
            planes = to_planes(x, run.plane)
            g = self._pool(g, planes.shape[1])
            x, g = self._advance(run, planes, g)
            if self.token_pooling == "depth":
                g = pool_adaptive(g, depth)
            self._read(features, run.blocks.stop, x, g, depth)
        return Features(features)

    def _flattened(self, volume: Tensor) -> Features:
        """Every patch token of the volume in one sequence, with one set of global tokens (the paper's 3D baseline)."""
        features: dict[int, LayerFeatures] = {}
        x, g = self._embed(volume, range(0))
        depth, height, width = x.shape[1:4]
        rope = self.backbone.rope_3d(depth, height, width)
        planes, tokens = x.flatten(1, 2), g[:, 0]
        for block in range(self.layers[-1].after):
            planes, tokens = self.backbone.run_block(block, planes, tokens, rope)
            self._read(features, block + 1, planes.unflatten(1, (depth, height)), tokens[:, None], 1)
        return Features(features)

    def _embed(self, volume: Tensor, blocks: range) -> tuple[Tensor, Tensor]:
        """Embed a volume slice by slice and run `blocks` on the slices while they are at hand."""
        slices = rearrange(volume, "b c d h w -> b d c h w")

        def planes_and_tokens(batch: slice, plane: slice) -> tuple[Tensor, Tensor]:
            images = slices[batch, plane].flatten(0, 1)
            images = self.backbone.normalise(images) if self.normalise else images.expand(-1, 3, -1, -1)
            return self.backbone.embed(images.to(self.backbone.dtype))

        batch, depth, _, *image = slices.shape
        return self._run(Run("HW", blocks), (batch, depth, *image), planes_and_tokens, None)

    def _advance(self, run: Run, planes: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Run blocks on planes ``(B, P, R, S, C)`` with their tokens ``(B, P, g, C)``; return the volume and tokens.

        Without gradients, blocks that keep the shape write each batch of planes back where it came from.
        """

        def planes_and_tokens(batch: slice, plane: slice) -> tuple[Tensor, Tensor]:
            return planes[batch, plane].flatten(0, 1), g[batch, plane].flatten(0, 1)

        in_place = not torch.is_grad_enabled() and not any(map(self.backbone.changes_shape, run.blocks))
        x, g = self._run(run, planes.shape, planes_and_tokens, planes if in_place else None)
        return from_planes(x, run.plane), g

    def _run(
        self,
        run: Run,
        shape: tuple[int, ...],
        planes_and_tokens: Callable[[slice, slice], tuple[Tensor, Tensor]],
        target: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Take planes and tokens a batch at a time, run the blocks on them, and put the results together."""
        x, g = _Assembly(shape[:2], target), _Assembly(shape[:2])
        rope: dict[int, Tensor | None] = {}
        for batch, plane in self._batches(shape):
            planes, tokens = planes_and_tokens(batch, plane)
            for block in run.blocks:
                if block not in rope:
                    rope[block] = self.backbone.rope(block, *planes.shape[1:3])
                planes, tokens = self.backbone.run_block(block, planes, tokens, rope[block])
            x.put(batch, plane, planes)
            g.put(batch, plane, tokens)
        return x.whole(), g.whole()

    def _batches(self, shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
        """Cut B volumes of P planes into batches: several whole volumes, or some planes of one."""
        volumes, planes, *plane_shape = shape
        size = self.plane_batch or max(1, self._batch_values() // math.prod(plane_shape))
        if torch.is_grad_enabled():
            size = volumes * planes
        step = max(1, size // planes)
        for b in range(0, volumes, step):
            for p in range(0, planes, min(size, planes)):
                yield slice(b, b + step), slice(p, p + min(size, planes))

    def _batch_values(self) -> int:
        return _CPU_BATCH if self.backbone.device.type == "cpu" else _ACCELERATOR_BATCH

    def _pool(self, g: Tensor, planes: int) -> Tensor:
        """Bring the global tokens to the planes of the next block."""
        return pool_mean(g, planes) if self.mode == "pcm" else pool_adaptive(g, planes)

    def _read(self, features: dict[int, LayerFeatures], after: int, x: Tensor, g: Tensor, depth: int) -> None:
        """Keep the features of the layer that is read here, if it was asked for."""
        for layer in self.layers:
            if layer.after != after:
                continue
            tokens = pool_adaptive(g, depth)
            dense, tokens = self.backbone.norm(layer, x, tokens) if self.norm else (x, tokens)
            if dense is x and layer is not self.layers[-1]:
                dense = x.clone()  # the next blocks write to x
            features[layer.index] = LayerFeatures(rearrange(dense, "b d h w c -> b c d h w"), tokens)

    def _plan(self) -> Iterator[Run]:
        """Group the blocks into runs. The first run follows the embedding in HW; it may hold no block."""
        shapeless = 0  # shape-preserving blocks seen so far: only they take turns in the cycle
        planes: list[Plane] = []
        for block in range(self.layers[-1].after):
            if self.backbone.changes_shape(block):
                planes.append("HW")
            else:
                planes.append(self.cycle[shapeless % len(self.cycle)])
                shapeless += 1
        reads = {layer.after for layer in self.layers}
        run = Run("HW", range(0))
        for block, plane in enumerate(planes):
            if plane == run.plane and block not in reads and (not run.blocks or self._continues(plane)):
                run = Run(plane, range(run.blocks.start, block + 1))
            else:
                yield run
                run = Run(plane, range(block, block + 1))
        yield run

    def _continues(self, plane: Plane) -> bool:
        """Whether two blocks in a row on `plane` leave each plane's global tokens to itself."""
        if not self.backbone.token_names or self.mode == "2d":
            return True
        return self.mode == "pcg" and (plane == "HW" or self.token_pooling == "direct")

    def _tracks_gradients(self, volume: Tensor) -> bool:
        wanted = volume.requires_grad or any(p.requires_grad for p in self.backbone.parameters())
        return torch.is_grad_enabled() and wanted

    def _check(self, volume: Tensor) -> None:
        stride = self.backbone.stride
        if volume.ndim != 5 or volume.shape[1] not in (1, 3) or 0 in volume.shape:
            raise LiftingError(f"volume of shape {tuple(volume.shape)}: give (B, 1 or 3, D, H, W)")
        if volume.shape[3] % stride or volume.shape[4] % stride:
            raise LiftingError(
                f"volume of shape {tuple(volume.shape)}: H and W must be multiples of {stride}, the stride of "
                f"{self.backbone.name}; pad it first (featlift.prepare and featlift extract do)"
            )


class _Assembly:
    """Results of batches of planes put together again: in place, into new memory, or, with gradients, by joining."""

    def __init__(self, lead: tuple[int, ...], target: Tensor | None = None) -> None:
        self._lead = lead
        self._target = target
        self._parts: list[Tensor] = []

    def put(self, batch: slice, plane: slice, values: Tensor) -> None:
        """Take the results ``(N, ...)`` for planes ``[batch, plane]``."""
        if torch.is_grad_enabled():
            self._parts.append(values)
            return
        if self._target is None:
            self._target = values.new_empty(*self._lead, *values.shape[1:])
        place = self._target[batch, plane]
        place.copy_(values.view(place.shape))

    def whole(self) -> Tensor:
        """Everything, ``(B, P, ...)``."""
        if self._target is not None:
            return self._target
        parts = torch.cat(self._parts)
        return parts.view(*self._lead, *parts.shape[1:])

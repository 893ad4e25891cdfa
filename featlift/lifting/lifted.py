"""A 2D backbone lifted to 3D: Algorithm 1 of PlaneCycle (arXiv 2603.04165), a few planes at a time.

Letters as in the paper: a volume of patch tokens x ``(B, D, H, W, C)`` and global tokens g ``(B, P, g, C)``, where P is
the number of planes in the current orientation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from featlift.backbones.backbone import Backbone, Layer
from featlift.errors import LiftingError
from featlift.lifting.features import Features, LayerFeatures
from featlift.lifting.planes import Cycle, Plane, from_planes, to_planes
from featlift.lifting.runs import Assembly, Run, batches, plan_runs, planes_at_a_time
from featlift.lifting.tokens import TokenPooling, pool_adaptive, pool_mean

Mode = Literal["2d", "3d", "pcm", "pcg"]


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
        self._runs = plan_runs(backbone, cycle, layers, self._tokens_stay)

    @property
    def stride(self) -> int:
        """Stride of the deepest layer asked for: H and W must be multiples of it."""
        return self.layers[-1].sampling.stride

    def forward(self, volume: Tensor) -> Features:
        """Lift a batch of volumes.

        Args:
            volume: ``(B, 1 or 3, D, H, W)``, intensities in [0, 1] (already normalised ones with normalise=False);
                H and W must be multiples of `stride`.

        Raises:
            LiftingError: another shape.
        """
        self._check(volume)
        with torch.set_grad_enabled(self._tracks_gradients(volume)):
            return self._flattened(volume) if self.mode == "3d" else self._planewise(volume)

    def _planewise(self, volume: Tensor) -> Features:
        """Algorithm 1: run by run, bring the global tokens to the planes, run the blocks there, and come back."""
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
        volumes, count, *plane_shape = shape
        size = self.plane_batch or planes_at_a_time(self.backbone.device, tuple(plane_shape))
        if torch.is_grad_enabled():
            size = volumes * count  # everything is kept for the gradients anyway
        x, g = Assembly((volumes, count), target), Assembly((volumes, count))
        rope: dict[int, Tensor | None] = {}
        for batch, plane in batches(volumes, count, size):
            planes, tokens = planes_and_tokens(batch, plane)
            for block in run.blocks:
                if block not in rope:
                    rope[block] = self.backbone.rope(block, *planes.shape[1:3])
                planes, tokens = self.backbone.run_block(block, planes, tokens, rope[block])
            x.put(batch, plane, planes)
            g.put(batch, plane, tokens)
        return x.whole(), g.whole()

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

    def _tokens_stay(self, plane: Plane) -> bool:
        """Whether two blocks in a row on `plane` leave each plane's global tokens to itself."""
        if not self.backbone.token_names or self.mode == "2d":
            return True
        return self.mode == "pcg" and (plane == "HW" or self.token_pooling == "direct")

    def _tracks_gradients(self, volume: Tensor) -> bool:
        wanted = volume.requires_grad or any(p.requires_grad for p in self.backbone.parameters())
        return torch.is_grad_enabled() and wanted

    def _check(self, volume: Tensor) -> None:
        stride = self.stride
        if volume.ndim != 5 or volume.shape[1] not in (1, 3) or 0 in volume.shape:
            raise LiftingError(f"volume of shape {tuple(volume.shape)}: give (B, 1 or 3, D, H, W)")
        if volume.shape[3] % stride or volume.shape[4] % stride:
            raise LiftingError(
                f"volume of shape {tuple(volume.shape)}: H and W must be multiples of {stride}, the stride of "
                f"{self.backbone.name}; pad it first, as featlift.volumes.grid.pad does"
            )

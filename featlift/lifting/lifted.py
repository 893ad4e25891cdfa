"""A 2D backbone lifted to 3D: Algorithm 1 of PlaneCycle (arXiv 2603.04165), a few planes at a time.

`featlift.lifting.reference` is the same in its plainest form.

Letters as in the paper: a volume of patch tokens x ``(B, D, H, W, C)`` and global tokens g ``(B, P, g, C)``, where P is
the number of planes in the current orientation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache, partial
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featlift.backbones.backbone import Backbone, Layer
from featlift.backbones.precision import precision_name
from featlift.backbones.sampling import FeatureLayer, Triple
from featlift.errors import LiftingError
from featlift.lifting.attention import best_attention
from featlift.lifting.batches import PlaneBatches
from featlift.lifting.budget import FreeMemory
from featlift.lifting.costs import feature_bytes, norm_cost, span_cost
from featlift.lifting.features import Features, LayerFeatures
from featlift.lifting.planes import Cycle, Plane, from_planes, to_planes
from featlift.lifting.spans import BlockSpan, plan_spans
from featlift.lifting.tokens import TokenPooling, pool_adaptive, pool_mean
from featlift.lifting.windows import blend, depth_windows

Mode = Literal["2d", "3d", "pcm", "pcg"]

#: Rotary embedding of a plane for a block: one evaluation a pass for planes of one shape.
Rope = Callable[[Plane, int, int, int], Tensor | None]


class LiftedBackbone(nn.Module):
    """A 2D backbone that takes volumes. Make one with `featlift.lift`.

    Attributes:
        backbone: the 2D network; its weights are used as they are.
        mode: ``pcg``, ``pcm`` (PlaneCycle), ``2d`` (slice by slice) or ``3d`` (flattened).
        cycle: planes that the blocks take in turn; ``("HW",)`` in mode 2d, the whole volume in mode 3d.
        layers: layers that are returned, shallow to deep.
        depth_window: slices that hear of each other; None for all.
        depth_overlap: slices that neighbouring windows share at least.
        checkpointing: whether blocks keep their input alone for the way back.
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
        depth_window: int | None,
        depth_overlap: int,
        batches: PlaneBatches,
        checkpointing: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.mode = mode
        self.cycle = cycle
        self.token_pooling = token_pooling
        self.layers = layers
        self.normalise = normalise
        self.norm = norm
        self.depth_window = depth_window
        self.depth_overlap = depth_overlap
        self.checkpointing = checkpointing
        self._batches = batches
        self._spans = plan_spans(backbone, cycle, layers, self._tokens_stay)

    @property
    def offload(self) -> bool:
        """Whether features are kept in host memory."""
        return self._batches.offload

    @property
    def stride(self) -> int:
        """Stride of the deepest layer asked for: H and W must be multiples of it."""
        return self.layers[-1].sampling.stride

    @property
    def name(self) -> str:
        """See `VolumeEncoder`."""
        return self.backbone.name

    @property
    def feature_layers(self) -> tuple[FeatureLayer, ...]:
        """See `VolumeEncoder`: along the depth every slice has its cells."""
        return tuple(
            FeatureLayer(
                layer.index,
                layer.name,
                layer.channels,
                (1, layer.sampling.stride, layer.sampling.stride),
                (0, layer.sampling.offset, layer.sampling.offset),
            )
            for layer in self.layers
        )

    @property
    def token_names(self) -> tuple[str, ...]:
        """See `VolumeEncoder`."""
        return self.backbone.token_names

    @property
    def tokens_per_slice(self) -> bool:
        """See `VolumeEncoder`."""
        return self.mode != "3d"

    @property
    def size_multiple(self) -> Triple:
        """See `VolumeEncoder`."""
        return 1, self.stride, self.stride

    @property
    def normed(self) -> bool:
        """See `VolumeEncoder`."""
        return self.norm

    @property
    def device(self) -> torch.device:
        """See `VolumeEncoder`."""
        return self.backbone.device

    @property
    def weights(self) -> Mapping[str, str]:
        """See `VolumeEncoder`."""
        return self.backbone.weights

    def recipe(self) -> dict[str, Any]:
        """See `VolumeEncoder`. Device and batch sizes are not in it: they change a feature by rounding at most."""
        backbone, planewise = self.backbone, self.mode in ("pcg", "pcm")
        offsets = [layer.sampling.offset for layer in self.layers]
        return {
            "model": backbone.name,
            "model_args": {name: _as_json(value) for name, value in sorted(backbone.arguments.items())},
            "weights_sha256": backbone.weights["sha256"],
            "weights_prefix": backbone.weights.get("prefix"),
            "rope_periods": backbone.weights.get("rope_periods"),
            **({"adapter_sha256": adapter} if (adapter := backbone.weights.get("adapter_sha256")) else {}),
            **({"position_resize": resize} if (resize := backbone.weights.get("position_resize")) else {}),
            "mean": list(backbone.mean) if self.normalise else None,
            "std": list(backbone.std) if self.normalise else None,
            "mode": self.mode,
            "cycle": ",".join(self.cycle) if planewise else None,
            "token_pooling": self.token_pooling if planewise and backbone.token_names else None,
            "layers": [layer.index for layer in self.layers],
            "norm": self.norm,
            "depth_window": self.depth_window,
            "depth_overlap": self.depth_overlap if self.depth_window is not None else None,
            "precision": precision_name(backbone.dtype),
            # where the first cells look, if that is not the middle of their windows: it decides which cells are scan
            **({"offsets": offsets} if any(layer.windows is not None for layer in self.layers) else {}),
        }

    def looking_at(self, offsets: Sequence[float | None] | None) -> LiftedBackbone:
        """See `VolumeEncoder`: the same network, which another extraction may go on using with its own offsets."""
        other = copy(self)
        pairs = zip(self.layers, offsets or [None] * len(self.layers), strict=True)
        other.layers = tuple(layer.looking_at(offset) for layer, offset in pairs)
        return other

    def forward(self, volume: Tensor) -> Features:
        """Lift a batch of volumes.

        Args:
            volume: ``(B, 1 or 3, D, H, W)``, intensities in [0, 1] (already normalised ones with normalise=False);
                H and W must be multiples of `stride`.

        Raises:
            LiftingError: another shape.
            LiftingMemoryError: a single plane does not fit in memory.
        """
        self._check(volume)
        windows = depth_windows(volume.shape[2], self.depth_window, self.depth_overlap)
        with torch.set_grad_enabled(self._tracks_gradients(volume)):
            if len(windows) == 1:
                return self._lift(volume)
            parts = (self._lift(volume[:, :, window]) for window in windows)
            return blend(parts, windows, self.depth_overlap)

    def _lift(self, volume: Tensor) -> Features:
        """Algorithm 1: span by span, bring the global tokens to the planes, run the blocks there, and come back."""
        features: dict[int, LayerFeatures] = {}
        leading, *spans = self._spans
        depth = volume.shape[2]
        rope = cache(partial(self._rope, depth))
        kept = 0.0 if self.offload else feature_bytes(self.layers, volume, self.backbone.dtype)
        free = FreeMemory(self.backbone.device, kept)
        x, g = self._embed(volume, leading, rope, free)
        self._read(features, leading.blocks.stop, x, g, free)
        for span in spans:
            planes = to_planes(x, span.plane)
            g = self._pool(g, planes.shape[1])
            planes, g = self._advance(span, planes, g, rope, free)
            x = from_planes(planes, span.plane, depth)
            if self.token_pooling == "depth" and span.plane != "DHW":
                g = pool_adaptive(g, depth)
            self._read(features, span.blocks.stop, x, g, free)
        return Features(features)

    def _embed(self, volume: Tensor, leading: BlockSpan, rope: Rope, free: FreeMemory) -> tuple[Tensor, Tensor]:
        """Embed a volume slice by slice and run the leading blocks on the slices while they are at hand."""
        through_blocks = self._blocks(leading, rope)

        def embed(slices: Tensor) -> tuple[Tensor, Tensor]:
            if self.normalise:
                return through_blocks(*self.backbone.embed_intensities(slices))
            return through_blocks(*self.backbone.embed(slices.expand(-1, 3, -1, -1).to(self.backbone.dtype)))

        slices = rearrange(volume, "b c d h w -> b d c h w")
        cost = span_cost(self.backbone, leading, 3 * slices[0, 0, 0].numel(), embeds=True)
        return self._batches.run(embed, (slices,), cost, free)

    def _advance(
        self, span: BlockSpan, planes: Tensor, g: Tensor, rope: Rope, free: FreeMemory
    ) -> tuple[Tensor, Tensor]:
        """Run blocks on planes ``(B, P, R, S, C)`` with their tokens ``(B, P, g, C)``.

        Without gradients, blocks that keep the shape write each batch of planes back where it came from.
        """
        in_place = not torch.is_grad_enabled() and not any(map(self.backbone.changes_shape, span.blocks))
        cost = span_cost(self.backbone, span, planes[0, 0].numel())
        return self._batches.run(self._blocks(span, rope), (planes, g), cost, free, planes if in_place else None)

    def _blocks(self, span: BlockSpan, rope: Rope) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The blocks of a span in turn, for any batch of its planes; with checkpointing, each keeps its input only."""
        run_block = self.backbone.run_block
        of_each_block = self.backbone.rope_is_mixed or self.backbone.rope_is_drawn
        if torch.is_grad_enabled() and self.checkpointing:
            run_block = partial(checkpoint, run_block, use_reentrant=False)

        def blocks(planes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
            _, rows, columns, _ = planes.shape
            with best_attention(planes.device, planes.dtype, rows * columns):
                for block in span.blocks:
                    _, rows, columns, _ = planes.shape
                    positions = rope(span.plane, block if of_each_block else 0, rows, columns)
                    planes, tokens = run_block(block, planes, tokens, positions)
            return planes, tokens

        return blocks

    def _rope(self, depth: int, plane: Plane, block: int, rows: int, columns: int) -> Tensor | None:
        """Rotary embedding of a plane's patch tokens."""
        if plane == "DHW":
            return self.backbone.rope_3d(depth, rows // depth, columns)
        return self.backbone.rope(block, rows, columns)

    def _pool(self, g: Tensor, planes: int) -> Tensor:
        """Bring the global tokens to the planes of the next block."""
        return pool_mean(g, planes) if self.mode == "pcm" else pool_adaptive(g, planes)

    def _read(self, features: dict[int, LayerFeatures], after: int, x: Tensor, g: Tensor, free: FreeMemory) -> None:
        """Keep the features of the layer that is read here, if one was asked for."""
        planes = to_planes(x, "DHW" if self.mode == "3d" else "HW")
        for layer in self.layers:
            if layer.after != after:
                continue
            tokens = pool_adaptive(g, planes.shape[1])
            # the next blocks write to x; after the last layer the norm does
            x_is_free = layer is self.layers[-1] and not torch.is_grad_enabled()
            if self.norm and self.backbone.has_norm(layer):
                step, target = partial(self.backbone.norm, layer), planes if x_is_free else None
                dense, tokens = self._batches.run(step, (planes, tokens), norm_cost(planes), free, target)
            else:
                dense = planes if x_is_free else planes.clone()
            features[layer.index] = LayerFeatures(rearrange(dense.view(x.shape), "b d h w c -> b c d h w"), tokens)

    def _tokens_stay(self, plane: Plane) -> bool:
        """Whether two blocks in a row on `plane` leave each plane's global tokens to itself."""
        if not self.backbone.token_names or self.mode in ("2d", "3d"):
            return True
        return self.mode == "pcg" and (plane == "HW" or self.token_pooling == "direct")

    def _tracks_gradients(self, volume: Tensor) -> bool:
        if not torch.is_grad_enabled():
            return False
        return volume.requires_grad or any(parameter.requires_grad for parameter in self.backbone.parameters())

    def _check(self, volume: Tensor) -> None:
        stride = self.stride
        if volume.ndim != 5 or volume.shape[1] not in (1, 3) or 0 in volume.shape:
            raise LiftingError(f"volume of shape {tuple(volume.shape)}: give (B, 1 or 3, D, H, W)")
        if volume.shape[3] % stride or volume.shape[4] % stride:
            raise LiftingError(
                f"volume of shape {tuple(volume.shape)}: H and W must be multiples of {stride}, the stride of "
                f"{self.backbone.name}; pad it first, as featlift.volumes.grid.pad does"
            )


def _as_json(value: object) -> object:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return [_as_json(item) for item in value] if isinstance(value, (list, tuple)) else repr(value)

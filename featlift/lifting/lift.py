"""`lift`: the door to this package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from featlift.backbones.backbone import Backbone, Layer
from featlift.errors import LiftingError
from featlift.lifting.batches import PlaneBatches
from featlift.lifting.lifted import LiftedBackbone, Mode
from featlift.lifting.planes import DEFAULT_CYCLE, Cycle, parse_cycle
from featlift.lifting.tokens import TokenPooling
from featlift.sizes import parse_size


def lift(
    backbone: Backbone,
    mode: Mode = "pcg",
    cycle: str | Sequence[str] | None = None,
    token_pooling: TokenPooling = "depth",
    layers: int | str | Sequence[int | str] = (-1,),
    normalise: bool = True,
    norm: bool = True,
    depth_window: int | None = None,
    depth_overlap: int | None = None,
    memory: int | str = "auto",
    plane_batch: int | None = None,
    offload: bool = False,
    compile: bool = False,  # noqa: A002 - torch's own word
    checkpointing: bool = True,
) -> LiftedBackbone:
    """Lift a 2D backbone to volumes (PlaneCycle, arXiv 2603.04165). No training, no new weights.

    Args:
        backbone: from `featlift.load_backbone`.
        mode: ``pcg`` (global tokens pooled adaptively between planes), ``pcm`` (their mean), ``2d`` (every slice by
            itself) or ``3d`` (all patch tokens in one sequence).
        cycle: planes that the blocks take in turn, such as ``("HW", "DW", "DH", "HW")``, the default.
        token_pooling: ``depth`` returns the global tokens to one set a slice after every block, as the released code
            does; ``direct`` keeps them on the active planes, Algorithm 1 to the letter.
        layers: layers to return: absolute indices, negative ones from the end, or ``"stride16"`` for the deepest layer
            of that stride.
        normalise: apply the backbone's own mean and std to intensities in [0, 1].
        norm: apply the backbone's final norm to every layer, as timm's ``forward_intermediates(norm=True)``.
        depth_window: slices that hear of each other. Longer volumes run in windows of so many slices whose features are
            blended, at a cost that is linear in depth; None lets the whole depth take part, at a quadratic one.
        depth_overlap: slices that neighbouring windows share at least; None takes a quarter of the window.
        memory: what the planes at work may take beside weights, volume and features, such as ``"2GB"`` or bytes;
            ``auto`` goes by what is free. This and the next three change no feature beyond rounding.
        plane_batch: how many planes run together, whatever the memory.
        offload: keep features in host memory and bring planes to the device as they are needed.
        compile: compile the backbone's blocks with `torch.compile`, once for all shapes and for all who use it.
        checkpointing: with gradients, keep the input of each block alone and compute the block again on the way back;
            otherwise everything is kept, which is faster and takes several times the memory.

    Raises:
        LiftingError: an unknown mode, route, plane or layer, a cycle in a mode that has none, windows that do not
            advance, or no planes at a time.
        OptionError: a memory that is no size.
    """
    if mode not in get_args(Mode):
        raise LiftingError(f"unknown mode {mode!r}: choose one of {', '.join(get_args(Mode))}")
    if token_pooling not in get_args(TokenPooling):
        raise LiftingError(f"unknown token pooling {token_pooling!r}: choose depth or direct")
    if mode in ("2d", "3d") and (cycle is not None or token_pooling != "depth"):
        raise LiftingError(f"mode {mode} visits no planes: cycle and token pooling belong to pcg and pcm")
    if plane_batch is not None and plane_batch < 1:
        raise LiftingError(f"plane batch {plane_batch}: give at least 1, or None to go by memory")
    if mode == "3d":
        backbone.rope_3d(1, 1, 1)
    if mode in ("2d", "3d"):
        planes: Cycle = ("HW",) if mode == "2d" else ("DHW",)
    else:
        planes = parse_cycle(DEFAULT_CYCLE if cycle is None else cycle)
    if compile:
        backbone.compile_blocks()
    return LiftedBackbone(
        backbone,
        mode,
        planes,
        token_pooling,
        find_layers(backbone, layers),
        normalise,
        norm,
        depth_window,
        _overlap(depth_window, depth_overlap),
        PlaneBatches(plane_batch, parse_size(memory), offload),
        checkpointing,
    )


def _overlap(window: int | None, overlap: int | None) -> int:
    """The slices that windows share, a quarter of their length if nothing was said.

    Raises:
        LiftingError: windows that do not advance, or an overlap without windows.
    """
    if window is None:
        if overlap is not None:
            raise LiftingError(
                f"depth overlap {overlap}: windows overlap only where there are some, give a depth window"
            )
        return 0
    shared = window // 4 if overlap is None else overlap
    if not 0 <= shared < window:
        raise LiftingError(
            f"depth window {window} with overlap {shared}: give a window above its overlap, both not below 0"
        )
    return shared


def find_layers(backbone: Backbone, wanted: int | str | Sequence[int | str]) -> tuple[Layer, ...]:
    """The layers asked for, shallow to deep, each once.

    Raises:
        LiftingError: a layer the backbone does not have.
    """
    several = [wanted] if isinstance(wanted, (int, str)) else wanted
    found = {layer.index: layer for layer in (_find_layer(backbone, which) for which in several)}
    if not found:
        raise LiftingError("no layer asked for: give at least one, -1 is the last")
    return tuple(found[index] for index in sorted(found))


def _find_layer(backbone: Backbone, which: int | str) -> Layer:
    layers = backbone.layers
    text = str(which)
    if text.startswith("stride") and text[6:].isdigit():
        fitting = [layer for layer in layers if layer.sampling.stride == int(text[6:])]
        if fitting:
            return fitting[-1]
    elif re.fullmatch(r"-?\d+", text) and -len(layers) <= int(text) < len(layers):
        return layers[int(text)]
    strides = sorted({layer.sampling.stride for layer in layers})
    raise LiftingError(
        f"layer {which!r}: {backbone.name} has layers 0 to {len(layers) - 1} (or -{len(layers)} to -1) "
        f"with strides {', '.join(f'stride{s}' for s in strides)}"
    )

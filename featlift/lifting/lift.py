"""`lift`: the door to this package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from featlift.backbones.backbone import Backbone, Layer
from featlift.errors import LiftingError
from featlift.lifting.lifted import LiftedBackbone, Mode
from featlift.lifting.planes import DEFAULT_CYCLE, parse_cycle
from featlift.lifting.tokens import TokenPooling


def lift(
    backbone: Backbone,
    mode: Mode = "pcg",
    cycle: str | Sequence[str] | None = None,
    token_pooling: TokenPooling = "depth",
    layers: int | str | Sequence[int | str] = (-1,),
    normalise: bool = True,
    norm: bool = True,
    plane_batch: int | None = None,
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
        plane_batch: how many planes run together; None chooses by their size. It changes no feature beyond rounding.

    Raises:
        LiftingError: an unknown mode, route, plane or layer, or a cycle in a mode that has none.
    """
    if mode not in get_args(Mode):
        raise LiftingError(f"unknown mode {mode!r}: choose one of {', '.join(get_args(Mode))}")
    if token_pooling not in get_args(TokenPooling):
        raise LiftingError(f"unknown token pooling {token_pooling!r}: choose depth or direct")
    if mode in ("2d", "3d") and (cycle is not None or token_pooling != "depth"):
        raise LiftingError(f"mode {mode} visits no planes: cycle and token pooling belong to pcg and pcm")
    if mode == "3d":
        backbone.rope_3d(1, 1, 1)
    return LiftedBackbone(
        backbone,
        mode,
        ("HW",) if mode in ("2d", "3d") else parse_cycle(DEFAULT_CYCLE if cycle is None else cycle),
        token_pooling,
        find_layers(backbone, layers),
        normalise,
        norm,
        plane_batch,
    )


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

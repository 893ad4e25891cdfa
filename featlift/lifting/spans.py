"""The order of work: which blocks run together, and on which planes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featlift.backbones.backbone import Backbone, Layer
from featlift.lifting.planes import Cycle, Plane


@dataclass(frozen=True)
class BlockSpan:
    """Consecutive blocks on one orientation between which no plane needs to hear of another."""

    plane: Plane
    blocks: range


def plan_spans(
    backbone: Backbone, cycle: Cycle, layers: tuple[Layer, ...], tokens_stay: Callable[[Plane], bool]
) -> list[BlockSpan]:
    """Give every block its plane and group the blocks into spans.

    Blocks that change the shape run in HW; the others, counted by themselves, take the planes of the cycle in turn.

    Args:
        backbone: whose blocks.
        cycle: planes in turn.
        layers: layers to read; a span ends where one is read.
        tokens_stay: whether two blocks in a row on this plane leave each plane's global tokens to itself.

    Returns:
        Spans in order. The first follows the embedding, in HW; it may hold no block.
    """
    reads = {layer.after for layer in layers}
    spans = [BlockSpan("HW", range(0))]
    turn = 0
    for block in range(layers[-1].after):
        plane: Plane = "HW"
        if not backbone.changes_shape(block):
            plane = cycle[turn % len(cycle)]
            turn += 1
        last = spans[-1]
        # the first span needs no pooling even in pcm: after the embedding every slice has the same global tokens
        if plane == last.plane and block not in reads and (not last.blocks or tokens_stay(plane)):
            spans[-1] = BlockSpan(plane, range(last.blocks.start, block + 1))
        else:
            spans.append(BlockSpan(plane, range(block, block + 1)))
    return spans

"""Algorithm 1 of PlaneCycle (arXiv 2603.04165) as the paper writes it: one volume, all planes of a block at once.

`featlift.lift` computes the same a few planes at a time and in place. The tests compare the two; to understand lifting,
read this one.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from featlift.backbones.backbone import Backbone
from featlift.lifting.planes import DEFAULT_CYCLE, Cycle, from_planes, to_planes
from featlift.lifting.tokens import TokenPooling, pool_adaptive, pool_mean


def planecycle(
    backbone: Backbone,
    volume: Tensor,
    mode: Literal["pcg", "pcm"] = "pcg",
    cycle: Cycle = DEFAULT_CYCLE,
    token_pooling: TokenPooling = "depth",
) -> tuple[Tensor, Tensor]:
    """Lift one volume with a backbone whose blocks all keep their shape.

    Args:
        backbone: a transformer.
        volume: ``(B, 1 or 3, D, H, W)``, intensities in [0, 1]; H and W are multiples of the stride.
        mode: how global tokens come to the planes of the next block, by adaptive averages (PCg) or as one mean (PCm).
        cycle: planes that the blocks take in turn.
        token_pooling: whether the tokens return to one set a slice after every block (``depth``, the released code) or
            stay on the active planes (``direct``, the paper).

    Returns:
        Dense features ``(B, D, h, w, C)`` and global tokens ``(B, D, g, C)`` of the last layer.
    """
    batch, _, depth, _, _ = volume.shape
    x, g = backbone.embed(backbone.normalise(volume.transpose(1, 2).flatten(0, 1)))
    x, g = x.unflatten(0, (batch, depth)), g.unflatten(0, (batch, depth))
    for block in range(backbone.num_blocks):
        plane = cycle[block % len(cycle)]
        planes = to_planes(x, plane)  # (B, P, R, S, C)
        count, rows, columns = planes.shape[1:4]
        g = pool_mean(g, count) if mode == "pcm" else pool_adaptive(g, count)
        planes, g = (
            each.unflatten(0, (batch, count))
            for each in backbone.run_block(
                block, planes.flatten(0, 1), g.flatten(0, 1), backbone.rope(block, rows, columns)
            )
        )
        x = from_planes(planes, plane, depth)
        if token_pooling == "depth":
            g = pool_adaptive(g, depth)
    return backbone.norm(backbone.layers[-1], x, pool_adaptive(g, depth))

"""Global tokens between planes: pooled along the plane axis, the paper's G (Algorithm 1).

Global tokens ``(B, P, g, C)`` belong to the P planes of the current orientation. Before a block runs on planes of
another orientation they are brought to its number of planes: by adaptive average pooling (PCg), or as one mean shared
by all planes (PCm).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

#: Where the tokens rest between blocks: back at length D (as the released code does) or at the active plane's P
#: (Algorithm 1 to the letter).
TokenPooling = Literal["depth", "direct"]


def pool_adaptive(tokens: Tensor, planes: int) -> Tensor:
    """Pool ``(B, P', g, C)`` to ``(B, planes, g, C)`` by adaptive averages along the plane axis (PCg)."""
    if tokens.shape[1] == planes:
        return tokens
    batch, _, g, _ = tokens.shape
    pooled = F.adaptive_avg_pool1d(rearrange(tokens, "b p g c -> (b g) c p"), planes)
    return rearrange(pooled, "(b g) c p -> b p g c", b=batch, g=g)


def pool_mean(tokens: Tensor, planes: int) -> Tensor:
    """Give each of `planes` planes the mean over all P' planes: ``(B, P', g, C)`` to ``(B, planes, g, C)`` (PCm)."""
    return tokens.mean(dim=1, keepdim=True).expand(-1, planes, -1, -1)

"""Learned tables of positions for images of other sizes than a network was trained with."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from featlift.errors import ModelError

#: All are bicubic. ``timm`` with antialiasing, to the size wanted; ``transformers`` without it; ``dinov2``, Meta's own
#: code, without it and by a factor that is a tenth of a patch larger. Away from the size of the training their patch
#: tokens differ, at 224 pixels by a cosine down to 0.99.
PositionResize = Literal["timm", "transformers", "dinov2"]

_LONGER = 0.1  # patches, in dinov2


def check_position_resize(net: Any, name: str, choice: PositionResize) -> None:
    """Refuse a choice that there is not, or that a network has no use for.

    Raises:
        ModelError: one of them.
    """
    if choice not in get_args(PositionResize):
        raise ModelError(f"position resize {choice!r}: choose one of {', '.join(get_args(PositionResize))}")
    if choice != "timm" and not _has_plain_table(net):
        raise ModelError(
            f"{name}: position resize {choice} is for vision transformers with one table of positions for a class "
            "token and patches, as DINOv2 without registers"
        )


def add_positions(net: Any, patches: Tensor, resize: PositionResize) -> Tensor:
    """Class token and patches ``(N, h, w, C)`` with their positions: ``(N, 1 + h*w, C)``; not for ``timm``."""
    count, rows, columns, channels = patches.shape
    table = net.pos_embed
    side = int((table.shape[1] - 1) ** 0.5)
    positions = table[:, 1:]
    if (rows, columns) != (side, side):
        image = positions.float().view(1, side, side, channels).permute(0, 3, 1, 2)
        if resize == "dinov2":
            factor = ((rows + _LONGER) / side, (columns + _LONGER) / side)
            image = F.interpolate(image, scale_factor=factor, mode="bicubic")
        else:
            image = F.interpolate(image, (rows, columns), mode="bicubic")
        positions = image.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)
    tokens = torch.cat([net.cls_token.expand(count, -1, -1), patches.flatten(1, 2)], dim=1)
    return tokens + torch.cat([table[:, :1], positions], dim=1)


def _has_plain_table(net: Any) -> bool:
    table = getattr(net, "pos_embed", None)
    return (
        isinstance(table, Tensor)
        and type(net).__name__ == "VisionTransformer"
        and not net.no_embed_class
        and net.num_prefix_tokens == 1
        and getattr(net, "cls_token", None) is not None
        and int((table.shape[1] - 1) ** 0.5) ** 2 == table.shape[1] - 1
    )

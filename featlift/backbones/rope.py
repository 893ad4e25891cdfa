"""Rotary position embedding of DINOv3: its periods in 2D, and its extension to a whole volume in 3D."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from featlift.errors import LiftingError, WeightsError

RopePeriods = Literal["auto", "file", "fp32", "bf16"]

#: Frequencies given to (D, H, W), by head width: the reference's choice for its flattened 3D mode.
SECTIONS_3D = {64: (8, 12, 12), 128: (16, 24, 24)}


def rope_3d(shape: tuple[int, int, int], head_width: int, temperature: float, device: torch.device) -> Tensor:
    """Rotary embedding for a volume flattened to one sequence (the paper's 3D baseline).

    Each axis is normalised to [-1, 1] by its own length, as DINOv3 does for rows and columns, and gets its own section
    of the head with periods from 1 up to `temperature`.

    Returns:
        ``(D * h * w, 2 * head_width)``, sines then cosines, for timm's half-rotation layout.

    Raises:
        LiftingError: no sections are defined for this head width.
    """
    if head_width not in SECTIONS_3D:
        raise LiftingError(f"mode 3d is defined for heads of width {sorted(SECTIONS_3D)}, not {head_width}")
    axes = [2 * (torch.arange(n, device=device) + 0.5) / n - 1 for n in shape]
    coordinates = torch.meshgrid(*axes, indexing="ij")
    angles = []
    for coordinate, length in zip(coordinates, SECTIONS_3D[head_width], strict=True):
        periods = temperature ** (torch.arange(length, device=device, dtype=torch.float32) / length)
        angles.append(2 * math.pi * coordinate.flatten()[:, None] / periods)
    angle = torch.cat(angles, dim=-1).tile(2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def has_dinov3_rope(net: nn.Module) -> bool:
    """Whether the network's rotary embedding has DINOv3's periods."""
    return hasattr(getattr(net, "rope", None), "periods")


class LastRopes:
    """Rotary embeddings of the planes seen last: timm makes coordinates on the host, for which a device has to wait."""

    _MOST = 4  # a pass has three shapes of planes at most

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # periods and what was made with them

    def of(self, rope: Any, rows: int, columns: int) -> Tensor:
        """The embedding of planes of `rows` x `columns` patch tokens by timm's module with DINOv3's periods."""
        periods, embedding = self._kept.pop((rows, columns), (None, None))
        if embedding is None or periods is not rope.periods:
            embedding = rope.get_embed(shape=(rows, columns))
        self._kept[rows, columns] = rope.periods, embedding
        if len(self._kept) > self._MOST:
            del self._kept[next(iter(self._kept))]
        return embedding


def resolve_periods(net: Any, choice: RopePeriods, from_file: Tensor | None, is_dinov3: bool) -> str | None:
    """Set the periods of the network's rotary embedding and say which ones it has now.

    Published DINOv3 files hold their periods rounded to bfloat16 and the reference computes with those; timm recomputes
    them in float32, which moves PCg features by 2e-2. ``auto`` takes the file's own periods if it holds any, else
    rounded ones for DINOv3 names, so that a hub download and an official file give the same features.

    Returns:
        ``fp32`` or ``bf16`` where the periods are those of the formula, else the periods themselves as text; None
        without such an embedding.

    Raises:
        WeightsError: periods were asked for by name and there are none.
    """
    if choice not in get_args(RopePeriods):
        raise WeightsError(f"rope periods {choice!r}: choose one of {', '.join(get_args(RopePeriods))}")
    if not has_dinov3_rope(net):
        if choice != "auto":
            raise WeightsError(f"rope periods {choice!r} asked for, but this backbone has no DINOv3 rotary embedding")
        return None
    if choice == "file" and from_file is None:
        raise WeightsError("rope periods 'file' asked for, but the weights hold no rope_embed.periods: use auto")
    computed = net.rope.periods.float().clone()
    rounded = computed.bfloat16().float()
    if choice == "auto":
        choice = "file" if from_file is not None else "bf16" if is_dinov3 else "fp32"
    periods = {"file": from_file, "fp32": computed, "bf16": rounded}[choice]
    assert periods is not None
    if periods.shape != computed.shape:
        raise WeightsError(f"rope periods of the file: {periods.numel()} values, the backbone has {computed.numel()}")
    net.rope.periods = periods.float().to(computed.device)
    for name, known in (("fp32", computed), ("bf16", rounded)):
        if torch.equal(net.rope.periods, known):
            return name
    return " ".join(f"{period:.9g}" for period in net.rope.periods.tolist())

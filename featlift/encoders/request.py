"""What is asked of a kind of native network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from featlift.backbones.precision import DTYPES, Precision


@dataclass(frozen=True)
class Request:
    """What whoever makes an encoder is given, as the command line has it.

    Attributes:
        name: of the network, behind the prefix of its kind.
        weights: a file, or ``random:SEED``; None takes what the network comes with.
        weights_prefix: of the network's keys in the file; None where there is none.
        layers: stages to return: absolute indices, negative ones from the end, or ``stride16``.
        tile: voxels (D, H, W) of the tiles that volumes run in; None leaves it to the network.
        device: where it computes.
        precision: its number format.
        memory: bytes that a tile may take, beside weights, volume and features; None goes by what is free.
        offload: keep features in host memory.
        arguments: of the network.
    """

    name: str
    weights: str | None = None
    weights_prefix: str | None = None
    layers: tuple[int | str, ...] = (-1,)
    tile: tuple[int, int, int] | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"
    memory: int | None = None
    offload: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """The type of its number format."""
        return DTYPES[self.precision]

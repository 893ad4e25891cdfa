"""What lifting asks of a 2D network: an embedding of slices, blocks that run on planes, layers to read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from featlift.backbones.catalogue import FAMILIES
from featlift.backbones.footprint import Footprint
from featlift.backbones.sampling import Sampling
from featlift.errors import LiftingError, ModelError


def family_of(net: nn.Module) -> str:
    """The timm class, among those featlift can lift, that a network belongs to.

    Raises:
        ModelError: none of them.
    """
    for cls in type(net).__mro__:
        if cls.__name__ in FAMILIES:
            return cls.__name__
    raise ModelError(f"a {type(net).__name__} is of a family featlift cannot lift: use one of {', '.join(FAMILIES)}")


@dataclass(frozen=True)
class Layer:
    """One output of a backbone that can be asked for.

    Attributes:
        index: position in `Backbone.layers`, as used by ``layers=`` and in the store.
        name: timm's name of the module it is the output of.
        after: how many blocks have run when it is read.
        channels: C.
        sampling: where its cells look in the image, the same for rows and columns.
        windows: where the middles of their windows are, if the trained network looks elsewhere.
    """

    index: int
    name: str
    after: int
    channels: int
    sampling: Sampling
    windows: Sampling | None = None

    def looking_at(self, offset: float | None) -> Layer:
        """The same with its first cell at a pixel of the image; None puts it in the middle of its windows."""
        windows = self.windows or self.sampling
        if offset is None or offset == windows.offset:
            return replace(self, sampling=windows, windows=None)
        return replace(self, sampling=Sampling(windows.stride, offset), windows=windows)


class Backbone(nn.Module, ABC):
    """A frozen 2D network from timm, cut into an embedding and blocks.

    Planes travel channel last, ``(N, R, S, C)`` for N planes of R rows and S columns; global tokens beside them as
    ``(N, g, C)``, class token first (g = 0 for convolutional networks).

    Attributes:
        net: the timm model.
        name: timm's name of the model.
        family: the timm class it belongs to.
        layers: every output that can be asked for, shallow to deep.
        blocks: the network's own modules that features pass through in turn.
        footprints: memory of every block, per value of the planes it is given.
        embed_footprint: memory of `embed`, per value of its three-channel slices.
        token_names: names of the g global tokens.
        rope_is_mixed: whether every block has a rotary embedding of its own.
        weights: where the weights came from and their sha256.
        arguments: the model arguments that differ from the name's own.
    """

    net: Any
    layers: tuple[Layer, ...]
    blocks: list[nn.Module]
    footprints: list[Footprint]
    embed_footprint: Footprint
    token_names: tuple[str, ...] = ()
    rope_is_mixed: bool = False

    def __init__(self, net: nn.Module, name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.name = name
        self.family = family_of(net)
        self.mean = mean
        self.std = std
        self.weights: dict[str, str] = {}
        self.arguments: dict[str, Any] = {}

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self.blocks)

    @property
    def stride(self) -> int:
        """Stride of the deepest layer: image sizes must be multiples of it."""
        return self.layers[-1].sampling.stride

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which the network computes."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def train(self, mode: bool = True) -> Self:
        """Training mode, for what is being trained: a frozen backbone stays as it is, positions and statistics alike.

        Batch norms keep their statistics even then: planes run in batches of a size that is a matter of memory.
        """
        super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compile the blocks in place with `torch.compile`, for planes of any number and size.

        Raises:
            LiftingError: a backbone whose blocks are of many kinds, each to be compiled by itself.
        """
        raise LiftingError(f"{self.name} ({self.family}): only the blocks of transformers are compiled")

    @abstractmethod
    def embed(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Embed 2D slices ``(N, 3, H, W)``, already normalised, into planes ``(N, h, w, C)`` and tokens ``(N, g, C)``.

        Learned positions are added here, once, in the HW plane.
        """

    def embed_intensities(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Embed 2D slices of intensities in [0, 1], ``(N, 1 or 3, H, W)``, of any floating type."""
        return self.embed(self.normalise(slices).to(self.dtype))

    @abstractmethod
    def run_block(self, index: int, planes: Tensor, tokens: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run block `index` on planes ``(N, R, S, C)`` with their global tokens ``(N, g, C)``."""

    def rope(self, index: int, rows: int, columns: int) -> Tensor | None:
        """Rotary embedding of block `index` for a plane of `rows` x `columns` patch tokens; None without RoPE."""
        return None

    def rope_3d(self, depth: int, height: int, width: int) -> Tensor:
        """Rotary embedding of all ``depth * height * width`` patch tokens in one sequence (mode ``3d``).

        Raises:
            LiftingError: the backbone has no rotary embedding that extends to 3D.
        """
        raise LiftingError(
            f"mode 3d needs a backbone with DINOv3's rotary positions; {self.name} ({self.family}) has none: "
            "use mode 2d, pcm or pcg"
        )

    @property
    def rope_is_drawn(self) -> bool:
        """Whether every block draws a scale of its rotary embedding now, see `rescale_rope`."""
        return False

    def rescale_rope(self, most: float) -> None:
        """Let every block, in training, multiply rotary coordinates by a factor drawn from [1 / most, most].

        Raises:
            LiftingError: the backbone has no DINOv3 rotary embedding.
        """
        raise LiftingError(f"{self.name} ({self.family}): no rotary coordinates of DINOv3 to rescale")

    def changes_shape(self, index: int) -> bool:
        """Whether block `index` changes rows, columns or channels, and so can only run slice by slice in HW."""
        return False

    def has_norm(self, layer: Layer) -> bool:
        """Whether timm's own forward applies a final norm to `layer`."""
        return True

    @abstractmethod
    def norm(self, layer: Layer, planes: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the final norm that `layer` has in timm's own forward, to planes and tokens alike."""

    def normalise(self, slices: Tensor) -> Tensor:
        """Bring intensities in [0, 1], ``(N, 1 or 3, H, W)``, to the network's three channels, mean and std."""
        mean = slices.new_tensor(self.mean).view(3, 1, 1)
        std = slices.new_tensor(self.std).view(3, 1, 1)
        return (slices - mean) / std

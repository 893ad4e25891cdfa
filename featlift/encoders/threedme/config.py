"""Sizes of a 3DME network, and what the paper leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from featlift.errors import ModelError

#: How positions are told to the tokens, see `featlift.encoders.threedme.position`.
Position = Literal["sum", "axes"]
#: What deformable attention sees beyond the volume: zeros, or the cells at its border.
Padding = Literal["zeros", "border"]


@dataclass(frozen=True)
class ThreeDMEConfig:
    """A 3DME network. The defaults are the paper's `base`, or our choice where it says nothing.

    Attributes:
        size: voxels along each axis of the crops that it is trained on, and of the tiles of larger scans.
        patch: voxels along each axis of a patch; every convolution halves the volume, so it is 2 to their number.
        width: channels of tokens.
        depth: blocks of the transformer.
        heads: of their attention.
        mlp_ratio: width of feed-forward layers, in widths.
        points: K, places that a head of the deformable attention samples.
        deformable_heads: of the deformable attention.
        offset_scale: cells of one unit of what the layer of offsets gives.
        padding: of the deformable attention.
        fuse_after: blocks after which the branches are joined, the last one among them, from 1.
        position: of tokens: ``sum`` as the paper has it, ``axes`` with channels for each axis.
        convolutions: channels of the strided convolutions.
    """

    size: int = 128
    patch: int = 8
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    points: int = 4
    deformable_heads: int = 8
    offset_scale: float = 1.0
    padding: Padding = "zeros"
    fuse_after: tuple[int, ...] = (3, 6, 9, 12)
    position: Position = "sum"
    convolutions: tuple[int, ...] = (64, 128, 256)

    def __post_init__(self) -> None:
        for name in ("fuse_after", "convolutions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check()

    @classmethod
    def base(cls, **changes: Any) -> Self:
        """The paper's: crops of 128³, 12 blocks of width 768."""
        return cls(**changes)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """A quarter of its width on crops of 64³, for one machine."""
        smaller: dict[str, Any] = {"size": 64, "width": 192, "heads": 3, "convolutions": (16, 32, 64)}
        return cls(**(smaller | changes))

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON would give it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave.

        Raises:
            ModelError: values that make no network.
        """
        known = {each.name for each in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ModelError(f"3dme has no option {unknown[0]!r}: choose of {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"3dme: options of other kinds than they have ({error})") from error

    def _check(self) -> None:
        for name in ("size", "patch", "width", "depth", "heads", "points", "deformable_heads"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ModelError(f"3dme: {name} {value!r}: give a whole number from 1")
        for name in ("fuse_after", "convolutions"):
            if not all(isinstance(value, int) and value > 0 for value in getattr(self, name)):
                raise ModelError(f"3dme: {name} {getattr(self, name)}: give whole numbers from 1")
        if not self.mlp_ratio > 0 or not self.offset_scale > 0:
            raise ModelError(f"3dme: mlp_ratio {self.mlp_ratio}, offset_scale {self.offset_scale}: give them above 0")
        for name, kind in (("position", Position), ("padding", Padding)):
            if getattr(self, name) not in get_args(kind):
                raise ModelError(f"3dme: {name} {getattr(self, name)!r}: choose one of {', '.join(get_args(kind))}")
        if self.patch != 2 ** len(self.convolutions):
            raise ModelError(
                f"3dme: patches of {self.patch} voxels and {len(self.convolutions)} convolutions that halve: cells of "
                f"both have to meet, so {len(self.convolutions)} go with patches of {2 ** len(self.convolutions)}"
            )
        if self.size % self.patch or self.size == self.patch:
            raise ModelError(f"3dme: size {self.size}: give a multiple of the {self.patch} voxels of a patch")
        if self.width % self.heads or self.width % self.deformable_heads:
            raise ModelError(
                f"3dme: width {self.width}: give a multiple of heads ({self.heads}) and deformable_heads "
                f"({self.deformable_heads})"
            )
        if self.width % (6 if self.position == "axes" else 2):
            raise ModelError(f"3dme: width {self.width}: pairs of sine and cosine do not fill it")
        rising = tuple(sorted(set(self.fuse_after)))
        if not rising or rising != self.fuse_after or rising[-1] != self.depth:
            raise ModelError(
                f"3dme: fuse_after {','.join(map(str, self.fuse_after))}: give rising numbers of blocks, of which the "
                f"last is depth, {self.depth}"
            )

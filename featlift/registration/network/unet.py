"""VoxelMorph: a U-Net that sees a pair and gives a velocity, which is integrated to a field (Dalca et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from featlift.errors import OptionError
from featlift.registration.network.velocity import integrated
from featlift.registration.sampling import resized, shape_of
from featlift.volumes.grid import Shape

#: Voxels that the coarsest level takes for one; grids have multiples of it.
MULTIPLE = 16

_LEVELS = (16, 32, 32, 32, 32, 32, 32, 32)  # down and up, from the finest to the coarsest of four poolings
_LAST = (16, 16)
_FLOW = 1e-5  # standard deviation of the last layer's weights: training begins with next to no displacement


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Pairs on grids of one shape.

    Attributes:
        seen: what the network sees, ``(B, 2 C, D, H, W)``, the fixed scans' channels first.
        grey: intensities of both, ``(B, 2, D, H, W)``.
        edges: ``(B, 3)`` of a voxel along (d, h, w), 1 for the shortest.
        inner: of each pair, where on the grid the fixed scan's own voxels are.
    """

    seen: Tensor
    grey: Tensor
    edges: Tensor
    inner: list[tuple[slice, slice, slice]]

    def to(self, device: torch.device) -> PairBatch:
        """The same on a device."""
        return PairBatch(self.seen.to(device), self.grey.to(device), self.edges.to(device), self.inner)


def need_monai() -> None:
    """Make sure that MONAI is installed.

    Raises:
        OptionError: it is not.
    """
    if find_spec("monai") is None:
        raise OptionError(
            "networks that register are MONAI's, which is not installed: pip install 'featlift[register]'"
        )


class RegistrationNet(nn.Module):
    """MONAI's U-Net in the layout of VoxelMorph: 16, 32, 32, 32 down, 32, 32, 32, 32, 32, 16, 16 up, LeakyReLU 0.2.

    MONAI's own `VoxelMorph` around it halves grids of three dimensions only, by a scale that their ends do not share.
    So the velocity is halved, integrated and brought back here as ConvexAdam's stages treat their fields.

    Args:
        channels: C of each scan.
        flat: the axis of one voxel, of slices; None in three dimensions.

    Raises:
        OptionError: MONAI is not installed.
    """

    def __init__(self, channels: int, flat: int | None = None) -> None:
        need_monai()
        from monai.networks.nets.voxelmorph import VoxelMorphUNet

        super().__init__()
        self.flat = flat
        self.unet = VoxelMorphUNet(3 if flat is None else 2, 2 * channels, 32, _LEVELS, _LAST)
        last = [module for module in self.unet.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))][-1]
        nn.init.normal_(last.weight, std=_FLOW)
        assert last.bias is not None
        nn.init.zeros_(last.bias)

    def forward(self, batch: PairBatch) -> Tensor:
        """The fields of pairs, ``(B, 3, D, H, W)`` float32: displacements in voxels along (d, h, w)."""
        return torch.stack([self._field(velocity) for velocity in self._velocities(batch.seen)])

    def _velocities(self, seen: Tensor) -> Tensor:
        """``(B, 3, D, H, W)``; none along the axis of one voxel."""
        if self.flat is None:
            volumes: Tensor = self.unet(seen).float()
            return volumes
        axis = 2 + self.flat
        rows, columns = self.unet(seen.squeeze(axis)).float().unsqueeze(axis).unbind(1)
        parts = [rows, columns]
        parts.insert(self.flat, torch.zeros_like(rows))
        return torch.stack(parts, dim=1)

    def _field(self, velocity: Tensor) -> Tensor:
        whole = shape_of(velocity)
        return resized(integrated(resized(velocity, _halved(whole))), whole)


def _halved(shape: Shape) -> Shape:
    d, h, w = (max(1, size // 2) for size in shape)
    return d, h, w

"""A 3D network with a depth stride of two: not lifted from anything."""

import copy
from types import MappingProxyType

import torch
from torch import nn

from featlift.lifting import FeatureLayer, Features, LayerFeatures


class NativeEncoder(nn.Module):
    """Means of blocks of 2 x 4 x 4 voxels, a constant, and six random convolutions of the means: eight channels."""

    name = "tiny-3d"
    token_names = ()
    tokens_per_slice = False
    size_multiple = (4, 8, 8)
    normed = False
    weights = MappingProxyType({"sha256": "0" * 64, "source": "seed 0"})

    def __init__(self, layers=(0, 1)):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(0.05 * torch.randn(6, 1, 3, 3, 3, generator=generator), requires_grad=False)
        self.layers = layers

    @property
    def device(self):
        return self.mix.device

    @property
    def feature_layers(self):
        both = (
            FeatureLayer(0, "blocks", 8, (2, 4, 4), (0.5, 1.5, 1.5)),
            FeatureLayer(1, "deeper", 8, (4, 8, 8), (1.5, 3.5, 3.5)),
        )
        return tuple(both[index] for index in self.layers)

    def recipe(self):
        return {
            "model": self.name,
            "weights_sha256": self.weights["sha256"],
            "layers": list(self.layers),
            "norm": False,
            "mode": "native",
        }

    def looking_at(self, offsets):
        assert offsets is None
        return copy.copy(self)

    def forward(self, volume):
        blocks = nn.functional.avg_pool3d(volume[:, :1], (2, 4, 4))
        first = torch.cat(
            [blocks, torch.ones_like(blocks) / 2, nn.functional.conv3d(blocks, self.mix, padding=1)], dim=1
        )
        found = (first, nn.functional.avg_pool3d(first, 2))
        none = volume.new_zeros(len(volume), 1, 0, 8)
        return Features({index: LayerFeatures(found[index], none) for index in self.layers})

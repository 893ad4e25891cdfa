"""A native 3D encoder that is trained: 3DME, with a decoder of its stages or a classifier of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from featlift.backbones.sampling import FeatureLayer
from featlift.encoders.native import NativeEncoder
from featlift.encoders.threedme import ThreeDME
from featlift.encoders.threedme.network import transformer_block
from featlift.errors import OptionError
from featlift.evaluation.classification.gated import BagHeads
from featlift.evaluation.classification.protocol import BagProbe
from featlift.finetuning.classifier import Classifier
from featlift.finetuning.decoder import Segmenter
from featlift.finetuning.plan import FinetunePlan
from featlift.lifting.features import Features
from featlift.segmentation.networks.blocks import groups_of
from featlift.segmentation.networks.decoder import UpBlock, beside, widths_of


def network_of_stages(encoder: NativeEncoder, plan: FinetunePlan) -> ThreeDME:
    """The network of a native encoder that can be trained.

    Raises:
        OptionError: another network than 3DME, or a plan for what it does not have.
    """
    if not isinstance(encoder.stages, ThreeDME):
        raise OptionError(f"--model {encoder.name}: of native 3D networks 3dme is fine-tuned: give 3dme:FOLDER")
    usual = FinetunePlan(plan.task)
    refused = {
        "--adapt lora": plan.adapt == "lora",
        "--layer-decay": plan.layer_decay < 1,
        "--rope-rescale": plan.rope_rescale is not None,
        "--pooling": plan.pooling != usual.pooling,
        "--tokens": plan.tokens is not None,
    }
    if given := [flag for flag, is_given in refused.items() if is_given]:
        raise OptionError(f"{given[0]} is of lifted 2D networks, {encoder.name} has no use for it: leave it out")
    return encoder.stages


class NativeClassifier(Classifier):
    """One more transformer block over the tokens of the deepest layer, then gated attention, then one linear layer.

    Args:
        encoder: 3DME.
        outputs: K.
        seed: of the attention's weights; all else is drawn from torch's generator.
    """

    def __init__(self, encoder: NativeEncoder, outputs: int, seed: int = 0) -> None:
        super().__init__()
        assert isinstance(encoder.stages, ThreeDME)
        self.encoder = encoder
        channels = encoder.feature_layers[-1].channels
        self.block = transformer_block(encoder.stages.config)
        self.norm = nn.LayerNorm(channels)
        heads = BagHeads.start(channels, outputs, 1, BagProbe(), [torch.Generator().manual_seed(seed)])
        self.pooling = nn.ParameterDict(heads.parameters)

    def of_one_shape(self, volumes: Tensor) -> Tensor:
        """See `Classifier`."""
        tokens = self.encoder(volumes).dense.flatten(2).transpose(1, 2)
        instances = self.norm(self.block(tokens))
        heads = BagHeads(dict(self.pooling.items()))
        logits: Tensor = heads(instances, instances.new_ones(instances.shape[:2], dtype=torch.bool))[0]
        return logits


class NativeSegmenter(Segmenter):
    """3DME and a decoder of all its stages.

    Args:
        encoder: 3DME.
        outputs: K; 1 for a single label, whose score is against the background.
        width: channels that the decoder begins with.
        dropout: of whole channels, behind each of its stages.
    """

    def __init__(self, encoder: NativeEncoder, outputs: int, width: int = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = StageDecoder(encoder.feature_layers, outputs, width, dropout)

    def logits(self, volumes: Tensor) -> Tensor:
        """See `Segmenter`."""
        logits: Tensor = self.decoder(self.encoder(volumes), volumes)
        return logits


class StageDecoder(nn.Module):
    """A U-Net's way up: all stages fused, then doubled along every axis until cells are voxels.

    As the stages are of one size, what is beside them on the way up is the scan, averaged to the size of each step.

    Args:
        layers: of the features, all of one stride, a power of two.
        outputs: K.
        width: channels of the fused stages; each doubling halves them.
        dropout: of whole channels, behind each doubling.
    """

    def __init__(self, layers: Sequence[FeatureLayer], outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({str(layer.index): nn.GroupNorm(1, layer.channels) for layer in layers})
        channels = sum(layer.channels for layer in layers) + 1
        widths = widths_of(width, layers[-1].stride[0].bit_length() - 1)
        self.fusion = nn.Sequential(
            nn.Conv3d(channels, width, 1, bias=False), nn.GroupNorm(groups_of(width), width), nn.GELU()
        )
        self.up = nn.ModuleList(UpBlock(wide, slim, 1, (2, 2, 2)) for wide, slim in pairwise(widths))
        self.dropout = nn.Dropout3d(dropout)
        self.classifier = nn.Conv3d(widths[-1], outputs, 1)

    def forward(self, features: Features, scan: Tensor) -> Tensor:
        """Logits ``(B, K, D, H, W)`` of features ``(B, C, d, h, w)`` and their scan ``(B, 1, D, H, W)``."""
        # torch's GroupNorm crashes on the way back where features are channels-last and of a frozen network
        normed = [norm(features.layers[int(index)].dense.float().contiguous()) for index, norm in self.norms.items()]
        x = self.fusion(beside(torch.cat(normed, dim=1), scan))
        for block in self.up:
            x = self.dropout(block(x, scan))
        return self.classifier(x)  # type: ignore[no-any-return]

"""Squares of intensities as the features of a store: what a linear head finds without any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from featlift.config import ExtractConfig
from featlift.extraction import Extraction, OutputSpec, Run
from featlift.lifting import FeatureLayer, Features, LayerFeatures
from featlift.volumes import Preparation, find_scans

SIDE = 5


class Squares:
    """The 5 x 5 intensities around each pixel of a section as its features: a `featlift.lifting.VolumeEncoder`."""

    name = "squares"
    token_names = ()
    tokens_per_slice = False
    size_multiple = (1, 1, 1)
    normed = False
    device = torch.device("cpu")
    weights = MappingProxyType({"sha256": "none", "source": "none"})
    feature_layers = (FeatureLayer(0, "squares", SIDE**2, (1, 1, 1), (0.0, 0.0, 0.0)),)

    def recipe(self) -> dict[str, Any]:
        """See `VolumeEncoder`."""
        return {"model": self.name, "weights_sha256": "none", "layers": [0], "norm": False, "mode": "native"}

    def looking_at(self, offsets: Sequence[float | None] | None) -> Squares:
        """See `VolumeEncoder`."""
        return self

    def __call__(self, volume: Tensor) -> Features:
        """See `VolumeEncoder`."""
        reach = SIDE // 2
        planes = F.pad(volume[:, 0], (reach,) * 4, mode="replicate")
        around = planes.unfold(2, SIDE, 1).unfold(3, SIDE, 1)  # (B, D, H, W, 5, 5)
        dense = around.flatten(4).movedim(4, 1)
        return Features({0: LayerFeatures(dense, volume.new_zeros(len(volume), 1, 0, SIDE**2))})


def extract_squares(scans: Path, store: Path, config: ExtractConfig, told: Callable[[], None]) -> None:
    """A store of the squares of scans, prepared as a configuration says; what is complete already is skipped."""
    keeping = OutputSpec(save=config.output.save)
    with Run(
        store, Extraction(Squares(), Preparation.of(config.preparation), keeping=keeping), find_scans([scans])
    ) as run:
        for outcome in run.extract():
            told()
            if outcome.status == "failed":
                raise SystemExit(f"{outcome.id}: {outcome.reason}")

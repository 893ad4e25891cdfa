"""φ of 3DME: a frozen network in whose eyes a reconstruction should be what the scan is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featlift.counting import number_of
from featlift.errors import OptionError
from featlift.lifting import VolumeEncoder
from featlift.pretraining.losses import semantic
from featlift.volumes import Preparation

_ALIKE = 0.05  # of a spacing


class Meaning:
    """The semantic loss by any encoder of featlift; its deepest layer counts.

    Its weights are left alone. Gradients go through it to the reconstruction; the scan is seen once, without any.

    Args:
        encoder: lifted or native.

    Raises:
        OptionError: it takes volumes of several channels.
    """

    def __init__(self, encoder: VolumeEncoder) -> None:
        if (channels := getattr(encoder, "channels", 1)) != 1:
            raise OptionError(f"{encoder.name} takes {channels} channels, pretraining has one: give another --model")
        if isinstance(encoder, nn.Module):
            encoder.eval().requires_grad_(False)
        self.encoder = encoder

    def check(self, preparation: Preparation, grown: int) -> None:
        """Refuse scans that are prepared otherwise than those that the network was trained on, with an `OptionError`.

        Args:
            preparation: of the scans.
            grown: how many have finer voxels than asked for, because they are small.
        """
        own = getattr(self.encoder, "preparation", {})
        theirs, ours = replace(Preparation(), **own).as_recipe(), preparation.as_recipe()
        name = self.encoder.name
        if "intensity" in own and theirs["intensity"] != ours["intensity"]:
            raise OptionError(
                f"{name} was trained on intensities of {theirs['intensity']}, not {ours['intensity']}: give "
                f"--intensity {theirs['intensity']}, or another --model"
            )
        if not theirs["spacing"]:
            return
        millimetres = " x ".join(f"{value:.3g}" for value in theirs["spacing"])
        if not ours["spacing"] or not np.allclose(theirs["spacing"], ours["spacing"], rtol=_ALIKE):
            found = " x ".join(f"{value:.3g}" for value in ours["spacing"]) or "their own number of"
            raise OptionError(
                f"{name} was trained on voxels of {millimetres} mm, the scans have {found} mm: give --spacing "
                f"{','.join(f'{value:g}' for value in theirs['spacing'])}, or another --model"
            )
        if grown:
            raise OptionError(
                f"{name} was trained on voxels of {millimetres} mm, and {number_of(grown, 'scan')} would be grown to "
                "the size of a crop: give a smaller --side, or another --model"
            )

    def loss(self, output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """One minus the mean cosine of features at masked voxels.

        Args:
            output: the reconstruction ``(B, 1, D, H, W)``.
            target: the scan.
            mask: true where masked.
        """
        with torch.no_grad():
            wanted = self._features(target)
        return semantic(self._features(output), wanted, F.pad(mask.float(), self._padding(mask)))

    def _features(self, volume: Tensor) -> Tensor:
        """``(B, C, d, h, w)``; volumes are continued to whole patches at their far ends, as extraction does."""
        return self.encoder(F.pad(volume, self._padding(volume), mode="replicate")).dense.float()

    def _padding(self, volume: Tensor) -> list[int]:
        d, h, w = (-size % step for size, step in zip(volume.shape[2:], self.encoder.size_multiple, strict=True))
        return [0, w, 0, h, 0, d]

"""Features inside of MONAI: a dictionary transform between `LoadImaged` and a network or a classifier."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch

from featlift.config import ExtractConfig
from featlift.errors import OptionError
from featlift.transforms.lifter import Lifter

try:
    from monai.config.type_definitions import KeysCollection
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.transform import MapTransform
except ImportError as error:
    raise OptionError("LiftedFeaturesd needs MONAI: pip install 'featlift[finetune]'") from error


class LiftedFeaturesd(MapTransform):
    """Images to their dense features, by a frozen network: ``(1 or 3, i, j, k)`` to ``(C, i, j, k)`` MetaTensors.

    The features lie on the grid of the network's cells; their affine says where, in RAS millimetres as MONAI has it, so
    that ``ResampleToMatchd`` brings them onto another image's grid, or a mask onto theirs.

    Args:
        keys: of the images, loaded with their channel first.
        allow_missing_keys: leave out what an item does not have.
        **options: of `featlift.extract_cohort` by name: ``model``, ``weights``, ``mode``, ``intensity``, ...

    Raises:
        OptionError: an option that there is not, or that makes no sense.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **options: Any) -> None:
        super().__init__(keys, allow_missing_keys)
        self.lifter = Lifter(ExtractConfig().with_values(options))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with features in the place of its images.

        Raises:
            VolumeError: an image that cannot be prepared, or one that does not say where it lies.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            if not isinstance(image, MetaTensor):
                raise OptionError(f"{key} is no MetaTensor, so it does not say where it lies: load it by LoadImaged")
            features, affine = self.lifter(np.asarray(image.cpu()), np.asarray(image.affine.cpu()))
            item[key] = MetaTensor(torch.from_numpy(features), affine=torch.from_numpy(affine))
        return item

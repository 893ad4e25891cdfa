"""Features inside of TorchIO: a transform of the images of a subject."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from featlift.config import ExtractConfig
from featlift.errors import OptionError
from featlift.transforms.lifter import Lifter

try:
    from torchio import ScalarImage, Subject, Transform
except ImportError as error:
    raise OptionError("LiftFeatures needs TorchIO: pip install torchio") from error


class LiftFeatures(Transform):
    """Images to their dense features, by a frozen network: ``(1 or 3, i, j, k)`` to ``(C, i, j, k)``.

    Scalar images alone, and only those of ``include`` where that is given; label maps stay as they are, on their own
    grid. The features lie on the grid of the network's cells, which their affine says.

    Args:
        options: of `featlift.extract_cohort` by name: ``{"model": ..., "layers": ..., "intensity": ...}``.
        **kwargs: of every transform of TorchIO's: ``include``, ``exclude``, ``keep={"t1": "t1_scan"}``, ...

    Raises:
        OptionError: an option that there is not, or that makes no sense.
    """

    def __init__(self, options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = options or {}
        self.args_names = ["options"]
        self.lifter = Lifter(ExtractConfig().with_values(self.options))

    def apply_transform(self, subject: Subject) -> Subject:
        """The subject with features in the place of its images.

        Raises:
            VolumeError: an image that cannot be prepared.
        """
        images = subject.get_images_dict(intensity_only=True, include=self.include, exclude=self.exclude)
        for name, image in images.items():
            with np.errstate(all="warn"):  # TorchIO raises where numbers meet zero, which a network's may
                features, affine = self.lifter(image.data.numpy(), image.affine)
            subject.add_image(ScalarImage(tensor=torch.from_numpy(features), affine=affine), name)
        return subject

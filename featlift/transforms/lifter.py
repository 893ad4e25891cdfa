"""What transforms of other frameworks share: an image in RAS, as nibabel has it, to its features."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.config import ExtractConfig
from featlift.errors import VolumeError
from featlift.extraction import Extraction, encoder_of, extract, preparation_of
from featlift.volumes import Volume
from featlift.volumes.volume import Affine, lps_ras


class Lifter:
    """A network that is loaded when it is first needed, once a process: to workers it travels as its options.

    Args:
        config: of network, lifting and preparation; the rest has no say.

    Raises:
        OptionError: options that make no sense together.
    """

    def __init__(self, config: ExtractConfig) -> None:
        config.check()
        self.config = config

    def __call__(self, image: NDArray[Any], affine: Affine) -> tuple[NDArray[np.float32], Affine]:
        """Features of an image.

        Args:
            image: ``(1 or 3, i, j, k)``, in the units of the scan.
            affine: maps indices ``(i, j, k, 1)`` to RAS millimetres.

        Returns:
            ``(C, i, j, k)`` of the deepest layer on the grid of its cells, padded ones cut off, and the affine of that.

        Raises:
            VolumeError: other channels, or a volume that cannot be prepared.
        """
        if image.ndim != 4 or len(image) not in (1, 3):
            raise VolumeError(f"an image of shape {image.shape}: give (1, i, j, k), or (3, i, j, k) for three channels")
        voxels = np.ascontiguousarray(image.transpose(0, 3, 2, 1), dtype=np.float32)
        volume = Volume(voxels[0] if len(voxels) == 1 else voxels, lps_ras(np.asarray(affine, dtype=np.float64)))
        case = extract(volume, self._extraction.encoder, self._extraction.preparation)
        assert case.affine is not None
        return np.ascontiguousarray(case.cells().transpose(0, 3, 2, 1), dtype=np.float32), lps_ras(case.affine)

    @cached_property
    def _extraction(self) -> Extraction:
        encoder = encoder_of(self.config.network, self.config.lifting)
        return Extraction(encoder, preparation_of(self.config.preparation, encoder))

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}

"""What an encoder around a lifted backbone has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Self

import torch

from featlift.lifting.lifted import LiftedBackbone


class AroundLifted:
    """The members of `VolumeEncoder` that are those of the backbone inside.

    Attributes:
        lifted: lifts what it is shown of a volume.
    """

    lifted: LiftedBackbone

    @property
    def name(self) -> str:
        """See `VolumeEncoder`."""
        return self.lifted.name

    @property
    def token_names(self) -> tuple[str, ...]:
        """See `VolumeEncoder`."""
        return self.lifted.token_names

    @property
    def normed(self) -> bool:
        """See `VolumeEncoder`."""
        return self.lifted.normed

    @property
    def device(self) -> torch.device:
        """See `VolumeEncoder`."""
        return self.lifted.device

    @property
    def weights(self) -> Mapping[str, str]:
        """See `VolumeEncoder`."""
        return self.lifted.weights

    def looking_at(self, offsets: Sequence[float | None] | None) -> Self:
        """See `VolumeEncoder`. Offsets are in pixels of the network."""
        other = copy(self)
        other.lifted = self.lifted.looking_at(offsets)
        return other

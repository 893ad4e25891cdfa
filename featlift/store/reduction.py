"""Fewer channels: principal components fitted on a sample, or a random projection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from featlift.backbones.sampling import FeatureLayer
from featlift.counting import number_of
from featlift.errors import OptionError
from featlift.store.basis import Basis
from featlift.store.principal import Projection

if TYPE_CHECKING:
    from torch import Tensor

_SEED = 0


@dataclass(frozen=True)
class Reduction:
    """Dense features of C channels to K.

    Attributes:
        method: ``pca`` or ``random``.
        channels: K.
        basis: of ``pca``, once there is one.
    """

    method: Literal["pca", "random"]
    channels: int
    basis: Basis | None = None

    @classmethod
    def of(cls, text: str | None, basis: Basis | None = None) -> Reduction | None:
        """Read ``"pca:64"`` or ``"random:64"``; a basis alone says how many components it has.

        Raises:
            OptionError: it is neither, or the basis is for another number of channels.
        """
        if text is None:
            return None if basis is None else cls("pca", basis.channels, basis)
        found = re.fullmatch(r"(pca|random):([1-9]\d*)", text)
        if found is None:
            raise OptionError(f"reduce {text!r}: give pca:K or random:K, with K the channels to keep")
        method, channels = found[1], int(found[2])
        if basis is not None and (method, channels) != ("pca", basis.channels):
            raise OptionError(f"reduce {text}: the basis is of pca:{basis.channels}")
        return cls(method, channels, basis)  # type: ignore[arg-type]

    @property
    def spec(self) -> str:
        """As it is written: ``pca:64``."""
        return f"{self.method}:{self.channels}"

    @property
    def basis_sha256(self) -> str | None:
        """Of the file of the basis, if there is one."""
        return None if self.basis is None else self.basis.sha256

    def check(self, layers: Sequence[FeatureLayer]) -> None:
        """Refuse layers with fewer channels, or that the basis is not for, with an `OptionError`."""
        for layer in layers:
            if layer.channels < self.channels:
                raise OptionError(
                    f"reduce {self.spec}: layer {layer.index} has only {number_of(layer.channels, 'channel')}"
                )
            if self.basis is None:
                continue
            projection = self.basis.projections.get(layer.index)
            if projection is None or projection.components.shape[1] != layer.channels:
                raise OptionError(
                    f"the basis is not for layer {layer.index} with its {number_of(layer.channels, 'channel')}"
                )

    def of_layer(self, index: int, channels: int) -> Projection:
        """The projection of a layer of C channels."""
        if self.method == "random":
            return random_projection(channels, self.channels)
        assert self.basis is not None, "fitted before anything is reduced"
        return self.basis.projections[index]


@lru_cache(maxsize=8)
def random_projection(channels: int, kept: int, seed: int = _SEED) -> Projection:
    """Orthogonal directions drawn at random, the same for the same numbers, scaled so that lengths stay on average.

    Args:
        channels: C.
        kept: K.
        seed: of the draw.
    """
    # the stream of RandomState is frozen (NEP 19), that of numpy's newer generators may change with a version
    normal = np.random.RandomState(seed).standard_normal((channels, kept))
    orthonormal, upper = np.linalg.qr(normal)
    components = (orthonormal * np.sign(np.diag(upper))).T * np.sqrt(channels / kept)  # without LAPACK's choice of sign
    return Projection(np.zeros(channels, np.float32), components.astype(np.float32))


def reduce(dense: Tensor, projection: Projection) -> Tensor:
    """Project dense features ``(C, D, h, w)`` to ``(K, D, h, w)`` float32, slice by slice."""
    import torch

    mean, components = (torch.from_numpy(each).to(dense.device) for each in (projection.mean, projection.components))
    reduced = torch.empty((len(components), *dense.shape[1:]), device=dense.device)
    for index in range(dense.shape[1]):
        cells = dense[:, index].float().flatten(1)
        reduced[:, index] = (components @ (cells - mean[:, None])).view(-1, *dense.shape[2:])
    return reduced


def recorded(spec: str, projection: Projection) -> dict[str, Any]:
    """What is recorded of a projection beside reduced features."""
    return {"by": spec, "from_channels": projection.components.shape[1], "variance_kept": projection.variance_kept}

"""What is stored of a volume, before it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.store.layout import SAVED


@dataclass(frozen=True, eq=False)
class LayerData:
    """Features of one layer of one volume; None for what is not kept.

    Attributes:
        index: absolute index of the layer.
        dense: ``(C, d, h, w)``, padding included.
        tokens: ``(d, g, C)``, or ``(1, g, C)`` in mode 3d; g may be 0.
        slice_mean: ``(d, C)`` float32, padding excluded.
        attributes: stride, offset, norm and affine of the dense grid.
    """

    index: int
    dense: NDArray[Any] | None
    tokens: NDArray[Any] | None
    slice_mean: NDArray[np.float32] | None
    attributes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class CaseData:
    """Everything that is stored of one volume; None for what is not kept.

    Attributes:
        id: case id.
        scan: ``(D, H, W)`` or ``(3, D, H, W)``, what the backbone saw, padding excluded.
        layers: shallow to deep; the deepest stands at the top of the group, the others under ``layers/``.
        embedding: ``(E,)`` float32.
        embedding_parts: name of each part of the embedding and its range, such as ``{"cls-mean": [0, 384]}``.
        token_names: names of the g global tokens.
        attributes: source, geometry, padding.
        dtype: that dense features and tokens are stored in: ``float16``, ``float32`` or ``int8``.
    """

    id: str
    scan: NDArray[Any] | None
    layers: list[LayerData]
    embedding: NDArray[np.float32] | None
    embedding_parts: dict[str, list[int]]
    token_names: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float16"

    @property
    def saved(self) -> tuple[str, ...]:
        """What is kept, of `featlift.store.layout.SAVED`."""
        deepest = self.layers[-1]
        values = (self.scan, deepest.dense, deepest.tokens, deepest.slice_mean, self.embedding)
        return tuple(name for name, each in zip(SAVED, values, strict=True) if each is not None)

    @property
    def grids(self) -> dict[str, dict[str, Any]]:
        """The grid of each layer's dense features, by the path that they have or would have."""
        return {f"{self.prefix(layer)}dense": layer.attributes for layer in self.layers}

    def prefix(self, layer: LayerData) -> str:
        """Where the arrays of a layer are: the deepest stands at the top of the group."""
        return "" if layer is self.layers[-1] else f"layers/{layer.index}/"

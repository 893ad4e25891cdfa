"""Linear heads on vectors of slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featlift.evaluation.classification.multi_seed import Heads, uniform


class LinearHeads(Heads):
    """For each seed a weighted mean of the slices, then a linear layer.

    The weights of the slices and a bias are learned; a single slice is taken as it is.
    """

    def __init__(self, depth: int, channels: int, outputs: int, generators: Sequence[torch.Generator]) -> None:
        shapes: dict[str, tuple[int, ...]] = {"weight": (channels, outputs), "bias": (outputs,)}
        inputs = dict.fromkeys(shapes, channels)
        if depth > 1:
            shapes |= {"pool": (depth,), "pool_bias": (1,)}
            inputs |= dict.fromkeys(("pool", "pool_bias"), depth)
        super().__init__(uniform(shapes, inputs, generators))

    def __call__(self, vectors: Tensor) -> Tensor:
        """Outputs ``(S, B, K)`` of vectors ``(S, B, D, C)``, or ``(B, D, C)`` if they are the same for every seed."""
        own = self.parameters
        if "pool" not in own:
            pooled = vectors.squeeze(-2).expand(len(own["bias"]), -1, -1)
        elif vectors.ndim == 4:
            pooled = (own["pool"][:, None, None] @ vectors).squeeze(-2) + own["pool_bias"][:, :, None]
        else:
            pooled = (own["pool"] @ vectors).transpose(0, 1) + own["pool_bias"][:, :, None]
        return torch.baddbmm(own["bias"][:, None], pooled, own["weight"])


class SliceVectors:
    """Cases of one depth, for `LinearHeads`.

    Args:
        vectors: ``(N, D, C)``.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = vectors
        self._room = vectors.new_empty(0, *vectors.shape[1:])

    def __len__(self) -> int:
        return len(self._vectors)

    def of(self, rows: NDArray[np.intp]) -> SliceVectors:
        """Some of the cases."""
        return SliceVectors(self._vectors[rows])

    def trained(self, heads: LinearHeads, rows: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """See `Cases`; nothing is drawn."""
        if len(self._room) < rows.numel():
            self._room = self._vectors.new_empty(rows.numel(), *self._vectors.shape[1:])
        # vectors[rows] in a fraction of the time: no memory is asked for, step after step
        batch = torch.index_select(self._vectors, 0, rows.flatten(), out=self._room[: rows.numel()])
        return heads(batch.view(*rows.shape, *self._vectors.shape[1:]))

    def scored(self, heads: LinearHeads) -> Tensor:
        """See `Cases`."""
        return heads(self._vectors)

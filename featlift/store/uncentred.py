"""Principal components with the mean given back: what evaluations by cosine need of reduced features."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.store.principal import Projection
from featlift.store.quantised import Dequantised
from featlift.store.recorded import StoredArray


class Uncentred:
    """Reduced features without their centring, ``(K + 1, d, h, w)``. Nothing is read before it is indexed.

    Of a feature x the store has y = V (x - m), with the mean m and the orthonormal components V. The reconstruction
    m + Vᵀy has the coordinates y + V m in the space of the components; what it has outside of that space, m - VᵀV m, is
    the same everywhere, so that its length says enough, as one more channel. Products, lengths and cosines, also of
    means over cells, are then those of the reconstruction.

    Args:
        dense: y, ``(K, d, h, w)``.
        projection: V and m.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, dense: StoredArray | Dequantised, projection: Projection) -> None:
        self.dense = dense
        self.projection = projection
        channels, *cells = dense.shape
        self.shape: tuple[int, ...] = (channels + 1, *cells)
        self.ndim = dense.ndim

    def __getitem__(self, part: Any) -> NDArray[np.float32]:
        """Values as float32; index it by numbers, slices and ``...``."""
        parts = part if isinstance(part, tuple) else (part,)
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts = parts[:at] + (slice(None),) * (self.ndim - len(parts) + 1) + parts[at + 1 :]
        channels, *cells = parts or (slice(None),)
        # all channels of a cell lie together, so that reading some of them is reading all
        reduced = np.asarray(self.dense[(slice(None), *cells)], dtype=np.float32)
        values = np.empty((self.shape[0], *reduced.shape[1:]), np.float32)
        values.T[...] = self._added
        values[:-1] += reduced
        chosen: NDArray[np.float32] = values[channels]
        return chosen

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"<uncentred array {self.shape}, read as float32>"

    @cached_property
    def _added(self) -> NDArray[np.float64]:
        """What each channel of a cell gets: V m, and ‖m - VᵀV m‖ as the last, ``(K + 1,)``."""
        mean, components = self.projection.mean.astype(np.float64), self.projection.components.astype(np.float64)
        within = components @ mean
        return np.append(within, np.linalg.norm(mean - components.T @ within))

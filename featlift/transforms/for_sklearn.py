"""Embeddings of scans inside of scikit-learn: paths in, a matrix out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from os import path as os_path
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from featlift.cohort import extract_scans
from featlift.config import ExtractConfig
from featlift.counting import number_of
from featlift.errors import StoreError, VolumeError
from featlift.remote import Remote
from featlift.store import open_store
from featlift.volumes import DiscoveredScans, Scan
from featlift.volumes.discovery.series import source_of
from featlift.volumes.scan import case_id_of


class LiftedFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scans to their embeddings, by a frozen network: a transformer that learns nothing.

    Args:
        model: a name of `featlift models`, or timm's.
        weights: a file, or ``random:SEED``; None takes the published ones.
        mode: how it sees a volume: ``pcg``, ``pcm``, ``2d``, ``3d`` or ``native``.
        layers: of the network; the embedding is the deepest one's.
        options: further ones of `featlift.extract_cohort` by name, such as ``{"intensity": "ct:soft", "size": 224}``.
        store: a store that keeps the embeddings, or its URL: a scan is lifted once, however many folds it is in. None
            keeps nothing.
    """

    def __init__(
        self,
        model: str = "vitb16",
        weights: str | None = None,
        *,
        mode: str = "pcg",
        layers: Sequence[int | str] = (-1,),
        options: Mapping[str, Any] | None = None,
        store: str | Path | Remote | None = None,
    ) -> None:
        self.model = model
        self.weights = weights
        self.mode = mode
        self.layers = layers
        self.options = options
        self.store = store

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: N803 - scikit-learn's own name
        """Make sure that the options make sense.

        Raises:
            OptionError: an option that there is not, or that makes no sense.
        """
        self._config().check()
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """Embeddings ``(N, E)`` of N scans.

        Args:
            X: their paths or URLs, as `featlift.read` takes them.

        Raises:
            InputError: no such file.
            VolumeError: a scan that cannot be read or prepared.
            ModelError: no such model.
            StoreError: `store` is of another recipe, or another process makes some of them just now.
        """
        paths = [str(each) for each in np.asarray(X, dtype=object).ravel()]
        if self.store is not None:
            return self._lifted(paths, self.store)
        with TemporaryDirectory() as folder:
            return self._lifted(paths, Path(folder) / "features.zarr")

    def _lifted(self, paths: Sequence[str], place: str | Path | Remote) -> NDArray[np.float32]:
        scans = {path: _scan(path) for path in paths}
        each_once = {scan.id: scan for scan in scans.values()}
        done = extract_scans(DiscoveredScans([each_once[name] for name in sorted(each_once)]), place, self._config())
        if done.failed:
            case_id, reason = next(iter(done.failed.items()))
            raise VolumeError(f"{number_of(len(done.failed), 'scan')} failed, {case_id} first: {reason}")
        if others := done.claimed_by_others:
            raise StoreError(
                f"{place}: another process makes {number_of(len(others), 'embedding')} just now: call transform once "
                "before a search of several processes"
            )
        store = open_store(place)
        return np.stack([store[scans[path].id].embedding for path in paths])

    def _config(self) -> ExtractConfig:
        network = {"model": self.model, "weights": self.weights, "mode": self.mode, "layers": tuple(self.layers)}
        whole = {"save": ("embedding",), "shard": "1/1"}  # also inside of a Slurm array
        return ExtractConfig().with_values({**whole, **network, **(self.options or {})})

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.string = True
        return tags


def _scan(path: str) -> Scan:
    """A scan whose id is the same whichever others are asked for with it: its name, and which folder that is in."""
    source = source_of(path)
    place = str(source.path) if isinstance(source.path, Remote) else os_path.realpath(source.path)
    which = sha256(f"{place}::{source.key}".encode()).hexdigest()[:12]
    return Scan(f"{case_id_of(source.path.name)}-{which}", source.path.name, (source,))

"""Colours of features: principal components to red, green and blue, the same for all cases and stores of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import write_atomically
from featlift.errors import InputError, OptionError, StoreError
from featlift.store.layout import differing_fields
from featlift.store.principal import Projection
from featlift.store.reading import Store
from featlift.store.tensors import pack, unpack

#: Fields of a recipe in which stores must agree to share colours: they say what a channel means.
MEANING = ("model", "weights_sha256", "adapter_sha256", "norm", "reduce", "basis_sha256")


@dataclass(frozen=True, eq=False)
class Colours:
    """A shared basis: the first components of features, and which of their values are dark and bright.

    Attributes:
        projection: to K components.
        low: ``(K,)``, values that are shown as 0.
        high: ``(K,)``, values that are shown as 255.
        foreground: the direction ``(C,)`` that tells foreground from background; None where everything is foreground.
        threshold: above which ``foreground @ feature`` is foreground.
        about: what it was fitted on: `MEANING`, ``layer``, ``stores``, ``cases``, ``cells``.
    """

    projection: Projection
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    foreground: NDArray[np.float32] | None = None
    threshold: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def variance_kept(self) -> float:
        """Share of the variance of the foreground that the components hold."""
        return float(self.projection.variance_kept or 0)

    def project(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Components ``(K, d, h, w)`` of features ``(C, d, h, w)``."""
        projection = self.projection
        cells = features.reshape(len(features), -1).astype(np.float32, copy=False)
        components = projection.components @ cells - (projection.components @ projection.mean)[:, None]
        return components.reshape(-1, *features.shape[1:])

    def rgb(self, components: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Colours ``(d, h, w, 3)`` of components ``(K, d, h, w)``, the first three of which are shown."""
        span = np.maximum(self.high - self.low, np.finfo(np.float32).tiny)
        shape = (-1, *[1] * (components.ndim - 1))
        shown = (components[:3] - self.low[:3].reshape(shape)) / span[:3].reshape(shape)
        colours: NDArray[np.uint8] = np.moveaxis(np.round(255 * np.clip(shown, 0, 1)), 0, -1).astype(np.uint8)
        return colours

    def foreground_of(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """How far cells ``(d, h, w)`` of features ``(C, d, h, w)`` are from the background: above 0 is foreground."""
        if self.foreground is None:
            return np.ones(features.shape[1:], np.float32)
        cells = features.reshape(len(features), -1).astype(np.float32, copy=False)
        return (self.foreground @ cells - np.float32(self.threshold)).reshape(features.shape[1:])

    def check(self, store: Store, layer: int | None = None) -> None:
        """Refuse a store whose channels mean something else.

        Raises:
            StoreError: its recipe differs in a field of `MEANING`.
            OptionError: it does not hold the layer that the colours are of.
        """
        shown = layer if layer is not None else max(store.recipe["layers"])
        if differing := differing_fields(dict(self.about["meaning"]), meaning_of(store), "colours", "store"):
            raise StoreError(f"{store.path}: the colours are of other features, which differ in {'; '.join(differing)}")
        if shown != self.about["layer"]:
            raise OptionError(f"{store.path}: the colours are of layer {self.about['layer']}, not of layer {shown}")

    def write(self, path: str | Path) -> None:
        """Write a file (safetensors), to be read again for other cases and stores.

        Raises:
            OutputError: it cannot be written.
        """
        tensors = {
            "mean": self.projection.mean,
            "components": self.projection.components,
            "variance_kept": np.array([self.variance_kept]),
            "low": self.low,
            "high": self.high,
        }
        if self.foreground is not None:
            tensors |= {"foreground": self.foreground, "threshold": np.array([self.threshold])}
        content = pack(tensors, self.about)
        write_atomically(Path(path), lambda draft: draft.write_bytes(content))

    @classmethod
    def read(cls, path: str | Path) -> Colours:
        """Read what `write` wrote.

        Raises:
            InputError: no such file.
            StoreError: it holds no colours.
        """
        try:
            tensors, about = unpack(Path(path).read_bytes())
            projection = Projection(tensors["mean"], tensors["components"], float(tensors["variance_kept"][0]))
            threshold = float(tensors["threshold"][0]) if "threshold" in tensors else 0.0
            return cls(projection, tensors["low"], tensors["high"], tensors.get("foreground"), threshold, about)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; `featlift pca --save-colours` makes one") from error
        except Exception as error:  # safetensors has an error of its own
            raise StoreError(f"{path} holds no colours of featlift's ({error})") from error


def meaning_of(store: Store) -> dict[str, Any]:
    """The fields of a store's recipe that say what a channel means; of orientations only where each has its own."""
    oriented = {"orientations": store.recipe["orientations"]} if store.recipe.get("fuse") == "concat" else {}
    return {name: store.recipe.get(name) for name in MEANING} | oriented

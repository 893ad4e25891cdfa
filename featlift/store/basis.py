"""The file of a basis: principal components of each layer, which every job of a cohort must share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featlift.errors import InputError, RemoteError, StoreError
from featlift.remote import Remote, parse_location
from featlift.store.backend import Where
from featlift.store.layout import BASIS, Recipe
from featlift.store.principal import Projection
from featlift.store.tensors import pack, unpack


@dataclass(frozen=True)
class Basis:
    """Principal components of each layer, by its absolute index, and the file that holds them.

    Attributes:
        content: bytes of the file (safetensors).
    """

    content: bytes

    @classmethod
    def of(cls, projections: dict[int, Projection], about: dict[str, Any]) -> Basis:
        """The basis of these projections; `about` says what they were fitted on, as JSON values."""
        tensors = {}
        for index, projection in projections.items():
            tensors[f"layers/{index}/mean"] = projection.mean
            tensors[f"layers/{index}/components"] = projection.components
            tensors[f"layers/{index}/variance_kept"] = np.array([projection.variance_kept])
        return cls(pack(tensors, about))

    @classmethod
    def read(cls, path: Path | Remote) -> Basis:
        """Read a file.

        Raises:
            InputError: no such file.
            StoreError: it holds no basis.
        """
        try:
            basis = cls(path.read_bytes())
            basis.projections, basis.about  # noqa: B018 - to fail here
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: no such file; `featlift extract --reduce pca:K` makes one in its store"
            ) from error
        except RemoteError:
            raise
        except Exception as error:  # safetensors has an error of its own
            raise StoreError(f"{path} is no basis of featlift's ({error})") from error
        return basis

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def projections(self) -> dict[int, Projection]:
        """Of each layer, by its absolute index."""
        tensors, _ = unpack(self.content)
        indices = sorted({int(name.split("/")[1]) for name in tensors})
        return {
            index: Projection(
                tensors[f"layers/{index}/mean"],
                tensors[f"layers/{index}/components"],
                float(tensors[f"layers/{index}/variance_kept"][0]),
            )
            for index in indices
        }

    @cached_property
    def about(self) -> dict[str, Any]:
        """What it was fitted on: ``reduce``, ``model``, ``weights_sha256``, ``scans``, ``cells``."""
        return unpack(self.content)[1]

    @property
    def channels(self) -> int:
        """K."""
        return len(next(iter(self.projections.values())).components)


def basis_of(store: Where, recipe: Recipe) -> Basis:
    """The basis that the features of a store were reduced with.

    Args:
        store: where it is.
        recipe: of its features.

    Raises:
        StoreError: they were not reduced so, or the basis is missing, or not the one that was written.
    """
    expected = recipe.get("basis_sha256")
    if expected is None:
        raise not_reduced(store)
    file = parse_location(store) / BASIS
    try:
        basis = Basis(file.read_bytes())
    except FileNotFoundError as error:
        raise StoreError(f"{file}: missing; put it back from a copy, or use another -o") from error
    if basis.sha256 != expected:
        raise StoreError(f"{file}: not what was written; put it back from a copy, or use another -o")
    return basis


def not_reduced(store: object) -> StoreError:
    """The error of a reader who asks for the mean of features that still have it."""
    return StoreError(f"{store} holds features that were not reduced by principal components: nothing to uncentre")

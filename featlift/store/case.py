"""One volume of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featlift.cards import card
from featlift.errors import FeatliftError, RemoteError
from featlift.store.backend import Where
from featlift.store.backends import backend_of
from featlift.store.basis import Basis
from featlift.store.case_layer import CaseLayer
from featlift.store.layout import METADATA, VOLUMES
from featlift.store.metadata import DamageError, MetadataError, RecordedVolume
from featlift.store.recorded import RecordedFiles, StoredArray
from featlift.store.showing import Look
from featlift.volumes.grid import Shape
from featlift.volumes.volume import Affine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Case", "CaseLayer", "open_case", "read_volume"]


class Case(CaseLayer):
    """One volume: features of its deepest layer, further layers, scan, embedding, geometry."""

    def __init__(self, files: RecordedFiles, volume: RecordedVolume, basis: Callable[[], Basis] | None = None) -> None:
        super().__init__(files, volume, basis=basis)
        self.id = volume.id

    @property
    def attributes(self) -> dict[str, Any]:
        """What is recorded of the volume: source, orientation, padding, keys with size and sha256."""
        return self._volume.attributes

    @property
    def scan(self) -> StoredArray:
        """What the backbone saw, ``(D, H, W)`` or ``(3, D, H, W)`` float16 in [0, 1], padding excluded."""
        return self._array("scan")

    @property
    def scan_shape(self) -> Shape:
        """(D, H, W) of the scan, which is known even if that is not kept."""
        return self._volume.shape

    @property
    def scan_affine(self) -> Affine | None:
        """Maps indices ``(d, h, w, 1)`` of the scan to LPS millimetres, or None."""
        return self._volume.affine

    @cached_property
    def embedding(self) -> NDArray[np.float32]:
        """One vector for the volume, ``(E,)``."""
        return np.asarray(self._array("embedding")[:])

    @property
    def embedding_parts(self) -> dict[str, tuple[int, int]]:
        """Name and range of each part of `embedding`."""
        array = self._array("embedding")
        try:
            found = {str(name): (int(low), int(high)) for name, (low, high) in array.ours["parts"].items()}
            if any(not 0 <= low < high <= array.shape[0] for low, high in found.values()):
                raise ValueError
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._files.damage("the parts of its embedding cannot be read") from error
        return found

    @cached_property
    def layers(self) -> dict[int, CaseLayer]:
        """Every stored layer by its absolute index, the deepest (the case itself) included."""
        if self._volume.grids is not None:
            paths = list(self._volume.grids)
        else:
            paths = [key.removesuffix(f"/{METADATA}") for key in self._files.files if key.endswith(f"dense/{METADATA}")]
        prefixes = [path.removesuffix("dense") for path in paths]
        further = [CaseLayer(self._files, self._volume, prefix, self._basis) for prefix in prefixes if prefix]
        layers = {int(layer.grid["layer"]): layer for layer in further}
        return dict(sorted(layers.items())) | {int(self.grid["layer"]): self}

    def check(self) -> None:
        """Look at what every array of it says of itself, without reading any.

        Raises:
            StoreError: one is missing, or cannot be what was written.
        """
        for layer in self.layers.values():
            for name in ("dense", "tokens", "slice_mean"):
                if name in self.saved:
                    getattr(layer, name)
        if "scan" in self.saved:
            self.scan  # noqa: B018 - to fail here
        if "embedding" in self.saved:
            self.embedding_parts  # noqa: B018

    @property
    def look(self) -> Look:
        """Its pictures."""
        return Look(self._volume, self, self.scan if "scan" in self.saved else None)

    def show(self, voxel: Sequence[int] | None = None, dark: bool = False) -> Figure:
        """The scan, and the features in colours of their own, in the three planes through a voxel.

        Colours of several cases that mean the same, on a black background, are `featlift pca`'s.

        Args:
            voxel: (d, h, w) of the scan; None takes its middle.
            dark: light on dark, for slides.

        Returns:
            A figure, which a notebook draws; ``figure.savefig`` writes it.

        Raises:
            OptionError: matplotlib is not installed, there is no such voxel, or neither scan nor dense is kept.
            StoreError: what is shown is damaged.
        """
        figure: Figure = self.look.figure(voxel, dark)
        return figure

    def _repr_html_(self) -> str:
        try:
            return self.look.card()
        except FeatliftError as error:  # a card is shown all the same
            return card(f"case {self.id}", {"failed": error})

    def __repr__(self) -> str:
        return f"<case {self.id}: {f'dense {self.dense.shape}' if 'dense' in self.saved else ', '.join(self.saved)}>"


def open_case(path: Where, case_id: str, basis: Callable[[], Basis] | None = None) -> Case:
    """A case of the store at `path`, and what gives the store's basis.

    Raises:
        StoreError: it is not there, or what it says of itself cannot be believed.
    """
    volume = read_volume(path, case_id)
    place = backend_of(path)
    return Case(RecordedFiles(place.files(f"{VOLUMES}/{case_id}"), volume.files, case_id), volume, basis)


def read_volume(path: Where, case_id: str) -> RecordedVolume:
    """What is recorded of a case; raises as `open_case`."""
    place = backend_of(path)
    try:
        return place.volume(case_id)
    except RemoteError:
        raise
    except OSError as error:
        reason = f"{METADATA} cannot be read ({error.strerror or error})"
        raise DamageError(case_id, reason) from error
    except MetadataError as error:
        raise DamageError(case_id, f"{METADATA}: {error}") from error

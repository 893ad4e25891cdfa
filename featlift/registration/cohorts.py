"""Where the scans of pairs come from: files, or a store of features with or without the files it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from featlift.config import ExtractConfig
from featlift.errors import InputError, StoreError
from featlift.registration.slices import on_voxels, slice_of
from featlift.remote import parse_location
from featlift.store import Case, Store, open_store
from featlift.store.backends import backend_of
from featlift.store.layout import METADATA
from featlift.store.metadata import MetadataError, attributes_in, json_object
from featlift.volumes import Reading, Scan, Selection, find_scans
from featlift.volumes.channels import read_scan
from featlift.volumes.opening import check_header, identity
from featlift.volumes.volume import Affine, Volume

_IDENTITY = ("bytes", "sha256")


@dataclass(frozen=True, eq=False)
class End:
    """One of the two scans of a pair.

    Attributes:
        id: of its case.
        name: of its file.
        volume: the scan; zeros on its voxels where it cannot be read.
        identity: of its file: ``bytes`` and ``sha256``.
        case: its features, where they are there already.
        voxels: whether `volume` holds the scan.
    """

    id: str
    name: str
    volume: Volume
    identity: dict[str, Any]
    case: Case | None = None
    voxels: bool = True

    def lying_on(self, affine: Affine | None) -> End:
        """The same scan on the voxels of a grid, see `on_voxels`."""
        return replace(self, volume=on_voxels(self.volume, affine))


class Cohort(Protocol):
    """Scans by id."""

    def __contains__(self, case_id: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

    def grid(self, case_id: str) -> Volume:
        """Zeros on the voxels of a scan, from its header."""

    def identity(self, case_id: str) -> dict[str, Any]:
        """``bytes`` and ``sha256`` of its file."""

    def load(self, case_id: str) -> End:
        """The scan, with its features if they are there already."""


class ScanCohort(Mapping[str, Scan]):
    """Scans in files.

    Args:
        scans: by id.
        reading: how far reading may go.
    """

    def __init__(self, scans: Mapping[str, Scan], reading: Reading) -> None:
        self._scans = scans
        self._reading = reading

    @classmethod
    def found(cls, place: str | Path, config: ExtractConfig) -> ScanCohort:
        """All scans of a folder or manifest, by the same ids as in a store of them.

        Raises:
            InputError: no such place, or no scan in it.
        """
        found = find_scans([place], Selection.of(config.selection))
        return cls({scan.id: scan for scan in found.scans}, Reading.of(config.reading))

    def grid(self, case_id: str) -> Volume:
        """See `Cohort`; raises InputError and VolumeError as reading does."""
        if (flat := slice_of(self[case_id])) is not None:
            return _zeros(flat.array.shape, flat.affine)
        image = check_header(self[case_id].sources[0], self._reading)
        return _zeros(image.shape, image.affine)

    def identity(self, case_id: str) -> dict[str, Any]:
        """See `Cohort`."""
        return identity_of(identity(self[case_id].sources))

    def load(self, case_id: str) -> End:
        """See `Cohort`; raises InputError and VolumeError as reading does."""
        volume = slice_of(self[case_id]) or read_scan(self[case_id], self._reading)
        return End(case_id, Path(self[case_id].name).name, volume, identity_of(volume.source or {}))

    def __getitem__(self, case_id: str) -> Scan:
        return self._scans[case_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scans)

    def __len__(self) -> int:
        return len(self._scans)


class StoreCohort:
    """Cases of a store.

    Args:
        store: of features.
        images: the files that it was made from; None does without.
    """

    def __init__(self, store: Store, images: ScanCohort | None = None) -> None:
        self.store = store
        self.images = images

    def __contains__(self, case_id: object) -> bool:
        return case_id in self.store

    def __iter__(self) -> Iterator[str]:
        return iter(self.store)

    def __len__(self) -> int:
        return len(self.store)

    def grid(self, case_id: str) -> Volume:
        """See `Cohort`: the voxels of its file, or of the stored scan where they were not recorded, and of a region.

        Raises:
            StoreError: the case is damaged.
            InputError: `images` lack its scan.
        """
        if self.images is not None:
            self._require(case_id)
            return self.images.grid(case_id)
        case = self.store[case_id]
        attributes = case.attributes
        if attributes.get("affine_read") is None or attributes["selection"].get("centre") is not None:
            return _zeros(case.scan_shape, case.scan_affine)
        return _zeros(tuple(attributes["shape_read"]), np.array(attributes["affine_read"]))

    def identity(self, case_id: str) -> dict[str, Any]:
        """See `Cohort`: as recorded."""
        return identity_of(self.store[case_id].attributes["source"])

    def load(self, case_id: str) -> End:
        """See `Cohort`.

        Raises:
            StoreError: the case is damaged, or its features were made from another file.
            InputError, VolumeError: as reading does.
        """
        case, recorded = self.store[case_id], self.identity(case_id)
        name = Path(case.attributes["source"]["name"]).name
        if self.images is None:
            return End(case_id, name, self.grid(case_id), recorded, case, voxels=False)
        self._require(case_id)
        volume = self.images.load(case_id).volume
        if (volume.source or {}).get("sha256") != recorded["sha256"]:
            raise StoreError(f"{case_id}: its features were made from another file than the one of --images")
        return End(case_id, name, volume, recorded, case)

    def _require(self, case_id: str) -> None:
        if self.images is not None and case_id not in self.images:
            raise InputError(
                f"--images holds no scan of {case_id}: give the folder or manifest that {self.store.name} was made from"
            )


def open_cohort(place: str | Path, config: ExtractConfig, images: str | Path | None = None) -> ScanCohort | StoreCohort:
    """A store of features, or scans.

    Args:
        place: path or URL of a store, of a folder of scans, or of a manifest.
        config: which scans, and how they are read.
        images: of a store, where the scans are that it was made from.

    Raises:
        InputError: no such place, no scan in it, or `images` for scans.
        StoreError: a store that cannot be read.
    """
    if _is_store(place):
        return StoreCohort(open_store(place), None if images is None else ScanCohort.found(images, config))
    if images is not None:
        raise InputError(f"--images is of stores, and {place} is none: it holds the scans itself")
    return ScanCohort.found(place, config)


def _is_store(place: str | Path) -> bool:
    try:
        attributes_in(json_object(backend_of(parse_location(place)).read(METADATA)))
    except (OSError, MetadataError):
        return False
    return True


def _zeros(shape: tuple[int, ...], affine: Affine | None) -> Volume:
    """A volume that takes no memory."""
    return Volume(np.broadcast_to(np.float32(0), shape), affine)


def identity_of(source: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a file beside a name, which may be given to another."""
    return {name: source[name] for name in _IDENTITY if name in source}

"""The scans that a network is shown: prepared, and their features in the components that the whole cohort shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from featlift.errors import FeatliftError, OptionError, VolumeError
from featlift.progress import Progress, counted
from featlift.registration.common_grid import shrunk
from featlift.registration.slices import slice_of
from featlift.store import Case
from featlift.store.basis import Basis
from featlift.store.features import features_of, scan_of, slabs_of
from featlift.store.layout import Recipe
from featlift.store.principal import Covariance, Projection
from featlift.store.reading import Store
from featlift.volumes import Preparation, Prepared, Reading, Scan, Volume, prepare
from featlift.volumes.grid import Shape
from featlift.volumes.loading import load
from featlift.volumes.opening import check_header
from featlift.volumes.volume import Affine, spacing_of

_OF_THE_NETWORK = ("model", "weights_sha256", "adapter_sha256")


@dataclass(frozen=True, eq=False)
class Subject:
    """What is shown of one scan.

    Attributes:
        image: ``(D, H, W)`` intensities in [0, 1], no finer than the network's grid.
        affine: of the image.
        cells: principal components of its features ``(K, d, h, w)``, None where none are seen.
        cells_affine: of the cells.
    """

    image: NDArray[np.float32]
    affine: Affine
    cells: NDArray[np.float32] | None = None
    cells_affine: Affine | None = None

    @classmethod
    def of(cls, scan: Volume, case: Case | None, projection: Projection | None, spacing: float) -> Subject:
        """A prepared scan as it is shown, with the features of its case if there is a projection for them.

        Args:
            scan: ``(D, H, W)`` with an affine.
            case: its features.
            projection: to the components of the cohort.
            spacing: of the network's grid in millimetres.
        """
        assert scan.affine is not None
        image, affine = shrunk(scan, scan.affine, spacing)
        if case is None or projection is None:
            return cls(image, affine)
        shift = projection.components @ projection.mean
        cells = np.tensordot(projection.components, features_of(case), axes=1) - shift[:, None, None, None]
        return cls(image, affine, cells, case.affine)

    def moved(self, by: Affine) -> Subject:
        """The same scan elsewhere: `by` is 4x4, places where it is to places where it shall be."""
        cells = None if self.cells_affine is None else by @ self.cells_affine
        return replace(self, affine=by @ self.affine, cells_affine=cells)


class PreparedCohort(ABC):
    """Scans by their ids.

    Attributes:
        ids: of all there are.
        recipe: of features and preparation, or of the preparation alone.
    """

    ids: Sequence[str]
    recipe: Recipe

    @abstractmethod
    def scan(self, case_id: str) -> Volume:
        """A prepared scan ``(D, H, W)`` with its affine.

        Raises:
            FeatliftError: it cannot be read, has several channels, or does not say where it lies.
        """

    @abstractmethod
    def affine_read(self, case_id: str) -> Affine | None:
        """Of the voxels of its file, before it was prepared; None where that is not known."""

    def case(self, case_id: str) -> Case:
        """The features of a scan.

        Raises:
            OptionError: there are none.
        """
        raise OptionError("input features: they come from a store; `featlift extract` makes one of these scans")


class PreparedStore(PreparedCohort):
    """The scans and features of a store."""

    def __init__(self, store: Store, features: bool) -> None:
        store.require("scan")
        if features:
            store.require("dense")
        self.store, self.ids = store, list(store)
        self.recipe = store.recipe if features else Preparation.from_recipe(store.recipe).as_recipe()

    def scan(self, case_id: str) -> Volume:
        """See `PreparedCohort`."""
        case = self.store[case_id]
        return _checked(case_id, scan_of(case).astype(np.float32), case.scan_affine)

    def affine_read(self, case_id: str) -> Affine | None:
        """See `PreparedCohort`."""
        affine = self.store[case_id].attributes.get("affine_read")
        return None if affine is None else np.array(affine)

    def case(self, case_id: str) -> Case:
        """See `PreparedCohort`."""
        return self.store[case_id]


class PreparedFiles(PreparedCohort):
    """Scans that are read from their files."""

    def __init__(self, scans: Mapping[str, Scan], preparation: Preparation, reading: Reading) -> None:
        self.scans, self.preparation, self.reading = scans, preparation, reading
        self.ids, self.recipe = list(scans), preparation.as_recipe()

    def scan(self, case_id: str) -> Volume:
        """See `PreparedCohort`."""
        try:
            if (flat := slice_of(self.scans[case_id])) is not None:
                return as_one_channel(case_id, prepare(flat, self.preparation))
            return as_one_channel(case_id, load(self.scans[case_id], self.preparation, self.reading).prepared)
        except FeatliftError as error:
            if str(error).startswith(case_id):
                raise
            raise VolumeError(f"{case_id}: {error}") from error

    def affine_read(self, case_id: str) -> Affine | None:
        """See `PreparedCohort`."""
        scan = self.scans[case_id]
        flat = slice_of(scan)
        return check_header(scan.sources[0], self.reading).affine if flat is None else flat.affine


def as_one_channel(name: str, prepared: Prepared) -> Volume:
    """A prepared scan ``(D, H, W)``, where it can be registered.

    Raises:
        VolumeError: it has several channels, or does not say where it lies.
    """
    channels = prepared.scan
    return _checked(name, channels[0] if len(channels) == 1 else channels, prepared.affine)


def fitted_basis(
    cohort: PreparedCohort, ids: Sequence[str], components: int, progress: Progress | None = None
) -> Basis:
    """The principal components of the features of these cases, of all of their cells.

    Raises:
        OptionError: the cohort has no features, or not as many cells as components.
        StoreError: features are damaged.
    """
    covariance: Covariance | None = None
    layer = 0
    for case_id in counted(ids, "components", progress):
        case = cohort.case(case_id)
        layer = int(case.grid["layer"])
        for slab in slabs_of(case):
            covariance = covariance or Covariance(len(slab))
            covariance.add(slab.reshape(len(slab), -1).T)
    assert covariance is not None
    about = {"reduce": f"pca:{components}", "scans": len(ids), "cells": {str(layer): covariance.count}}
    known = {name: cohort.recipe[name] for name in _OF_THE_NETWORK if name in cohort.recipe}
    return Basis.of({layer: covariance.principal(components)}, about | known)


def projection_in(basis: Basis | None) -> Projection | None:
    """The one projection of a network's basis."""
    return None if basis is None else next(iter(basis.projections.values()))


def finest(scan: Volume) -> float:
    """The shortest step in millimetres along an axis of several voxels."""
    assert scan.affine is not None
    return min(step for step, size in zip(spacing_of(scan.affine), scan.array.shape, strict=True) if size > 1)


def grown_shape(subject: Subject, spacing: float) -> Shape:
    """(D, H, W) of a scan on cubes of a spacing; an axis of one voxel stays one."""
    sizes = zip(subject.image.shape, spacing_of(subject.affine), strict=True)
    d, h, w = (1 if size == 1 else max(1, round(size * step / spacing)) for size, step in sizes)
    return d, h, w


def each_of(
    cohort: PreparedCohort, ids: Sequence[str], progress: Progress | None = None
) -> Iterator[tuple[str, Volume]]:
    """The prepared scans of a cohort, one after the other."""
    for case_id in counted(ids, "reading", progress):
        yield case_id, cohort.scan(case_id)


def _checked(name: str, array: NDArray[np.float32], affine: Affine | None) -> Volume:
    if array.ndim != 3:
        raise VolumeError(f"{name}: it has {len(array)} channels, and one is registered")
    if affine is None:
        raise VolumeError(f"{name}: it does not say where it lies (no affine): set its header first")
    if max(array.shape) == 1:
        raise VolumeError(f"{name}: a single voxel: there is nothing to register")
    return Volume(array, affine)

"""Find the objects of cases with a trained head of affinities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.atomic_io import check_writable
from featlift.errors import OptionError, VolumeError
from featlift.names import file_names
from featlift.progress import Progress, counted
from featlift.segmentation.inference.grids import ImageGrid, Voxels, grids_of
from featlift.segmentation.inference.prediction import Trained, notes_of, predictions_in, write_notes
from featlift.segmentation.instances.settings import AffinitySettings, Agglomeration
from featlift.segmentation.objects.finding import affinities_of, objects_in
from featlift.store.case import Case
from featlift.store.reading import Store
from featlift.training.precision import Precision, use_bf16
from featlift.volumes.formats.arrays import cremi_affine
from featlift.volumes.grid import on_grid
from featlift.volumes.instance_files import NEURON_IDS, cremi_attributes, write_instances
from featlift.volumes.instances import Instances

#: HDF5 and Zarr in CREMI's layout; see `write_instances`.
Format = Literal["hdf5", "zarr", "nifti"]

_ENDINGS: dict[Format, str] = {"hdf5": ".h5", "zarr": ".zarr", "nifti": ".nii.gz"}


@dataclass(frozen=True)
class Finding:
    """How objects are found and written.

    Attributes:
        agglomeration: see `AffinitySettings`; None is the head's own.
        threshold: see `objects_in`; None is what the training chose, which another agglomeration has not.
        format: of the files.
        resolution: nanometres along (d, h, w) of scans that do not say.
        grid: whose voxels the objects are on, see `Voxels`.
    """

    agglomeration: Agglomeration | None = None
    threshold: float | None = None
    format: Format = "hdf5"
    resolution: tuple[float, ...] = ()
    grid: Voxels = "input"

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise OptionError(f"format {self.format!r}: choose {', '.join(get_args(Format))}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise OptionError(f"--threshold {self.threshold}: give a number from 0 to 1")
        if self.resolution and (len(self.resolution) != 3 or min(self.resolution) <= 0):
            raise OptionError("--resolution: give nanometres along d,h,w, as in 40,4,4")

    def settings(self, own: AffinitySettings | None) -> AffinitySettings:
        """Those of a head, with this agglomeration.

        Raises:
            OptionError: a head of labels, or another agglomeration without a threshold.
        """
        if own is None:
            raise OptionError("a head of labels finds no objects: train one with --task affinities")
        if self.agglomeration in (None, own.agglomeration):
            return own
        if self.threshold is None:
            raise OptionError(
                f"--agglomeration {self.agglomeration}: the training chose a threshold for {own.agglomeration}; give a "
                "--threshold, from 0 to 1"
            )
        return replace(own, agglomeration=self.agglomeration)


def predict_objects(
    store: Store,
    trained: Trained,
    output: str | Path,
    ids: Sequence[str] = (),
    how: Finding = Finding(),
    device: torch.device | None = None,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> list[Path]:
    """Write the objects of each case, and what was predicted by what as ``predictions.json``.

    Of a cross-validation, affinities are the mean, and so is the threshold, of the heads that did not see the case.

    Args:
        store: of the cases.
        trained: the head.
        output: folder for the files.
        ids: of the cases; none takes all.
        how: settings.
        device: None is the CPU.
        precision: as in training.
        progress: called with what is being done, the cases that are done and their number.

    Raises:
        StoreError: the store has another recipe than the head was trained on, or is damaged.
        OptionError: an id that is no case, an unknown resolution, a folder that holds other predictions, or settings
            that do not fit the head.
        VolumeError: axes that the format cannot say.
        OutputError: the folder cannot be written.
    """
    output, device = Path(output), device or torch.device("cpu")
    settings = how.settings(trained.config.affinities)
    ids = trained.cases_of(store, ids)
    own = grids_of(store, ids, how.grid)
    grids = {case_id: own.get(case_id) or _of_scan(store[case_id], how) for case_id in ids}
    if how.format != "nifti":
        _check_axes(grids)
    check_writable(output)
    notes = notes_of(trained, (), "image" if own else "scan")
    notes |= {"agglomeration": settings.agglomeration, "threshold": how.threshold, "format": how.format}
    there = predictions_in(output, notes)
    names = file_names([*store, *there["cases"]])
    written = []
    for case_id in counted(ids, "segmenting", progress):
        found = _found(store, trained, case_id, settings, how.threshold, device, use_bf16(precision, device))
        grid = grids[case_id]
        if case_id in own:
            found = _on(found, store[case_id], grid)
        path = output / f"{names[case_id]}{_ENDINGS[how.format]}"
        written.append(write_instances(path, Instances(found, grid.affine)))
    cases = sorted({*there["cases"], *ids})
    write_notes(output, {**notes, "cases": cases, "seen": [case_id for case_id in cases if trained.saw(case_id)]})
    return written


def _found(
    store: Store,
    trained: Trained,
    case_id: str,
    settings: AffinitySettings,
    threshold: float | None,
    device: torch.device,
    bf16: bool,
) -> NDArray[np.uint64]:
    """The objects of a case on its stored scan, ids from 1."""
    unseen = trained.unseen(case_id)
    heads = [(head, config.reader(store)) for head, config in unseen]
    if threshold is None:
        threshold = float(np.mean([config.objects["threshold"] for _, config in unseen]))
    predicted = affinities_of(heads, case_id, trained.config.patch, settings, device, bf16)
    return next(objects_in(predicted, settings, [threshold]))


def _of_scan(case: Case, how: Finding) -> ImageGrid:
    """The grid of a stored scan; one that does not say where it lies has the resolution that was given."""
    affine = case.scan_affine
    if affine is None:
        affine = cremi_affine(NEURON_IDS, {"resolution": how.resolution}) if how.resolution else None
    if affine is None:
        raise OptionError(f"{case.id}: its scan does not say its resolution: give --resolution d,h,w in nanometres")
    return ImageGrid(case.scan_shape, affine)


def _check_axes(grids: dict[str, ImageGrid]) -> None:
    for case_id, grid in grids.items():
        try:
            cremi_attributes(grid.affine)
        except VolumeError as error:
            raise VolumeError(f"{case_id}: {error}, --format nifti") from error


def _on(found: NDArray[np.uint64], case: Case, grid: ImageGrid) -> NDArray[np.uint64]:
    """Objects of a stored scan on the voxels of its file, 0 beyond the scan."""
    assert case.scan_affine is not None
    if found.shape == grid.shape and np.allclose(case.scan_affine, grid.affine, rtol=1e-6, atol=1e-12):
        return found
    return on_grid(found, case.scan_affine, grid.shape, grid.affine, order=0)

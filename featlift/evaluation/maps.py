"""Similarity maps and predictions as NIfTI, to be looked at over the scan."""

from __future__ import annotations

from pathlib import Path

from featlift.evaluation.segmentation import Segmentation
from featlift.store.case import Case
from featlift.store.durable import as_output_error
from featlift.volumes.nifti import write_nifti


def write_maps(folder: Path, case: Case, segmentation: Segmentation) -> None:
    """Write ``<id>__prediction.nii.gz`` and ``<id>__map<label>.nii.gz`` on the grid of the case's stored scan.

    Raises:
        OutputError: the folder cannot be written.
    """
    with as_output_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_nifti(folder / f"{case.id}__prediction.nii.gz", segmentation.prediction, case.scan_affine)
        for label in segmentation.similarity:
            write_nifti(folder / f"{case.id}__map{label}.nii.gz", segmentation.map_of(label), case.scan_affine)

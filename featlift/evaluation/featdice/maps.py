"""Similarity maps and predictions as NIfTI, to be looked at over the scan."""

from __future__ import annotations

from pathlib import Path

from featlift.atomic_io import as_output_error
from featlift.evaluation.featdice.segmentation import Segmentation
from featlift.volumes.nifti import write_nifti
from featlift.volumes.volume import Affine


def write_maps(folder: Path, name: str, affine: Affine | None, segmentation: Segmentation) -> None:
    """Write ``<name>__prediction.nii.gz`` and ``<name>__map<label>.nii.gz`` on the voxels that are scored.

    Args:
        folder: made if it is missing.
        name: of the case, see `featlift.names.file_names`.
        affine: of the voxels, to LPS millimetres, or None.
        segmentation: of the case.

    Raises:
        OutputError: the folder cannot be written.
    """
    with as_output_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_nifti(folder / f"{name}__prediction.nii.gz", segmentation.prediction, affine)
        for label in segmentation.similarity:
            write_nifti(folder / f"{name}__map{label}.nii.gz", segmentation.map_of(label), affine)

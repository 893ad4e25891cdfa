"""Similarity maps and predictions as NIfTI, to be looked at over the scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.evaluation.segmentation import Segmentation
from featlift.store.case import Case
from featlift.store.durable import as_output_error
from featlift.volumes.volume import Affine

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED = np.eye(4)[[2, 1, 0, 3]]  # (i, j, k) -> (d, h, w): NIfTI's first axis is the fastest


def write_maps(folder: Path, case: Case, segmentation: Segmentation) -> None:
    """Write ``<id>__prediction.nii.gz`` and ``<id>__map<label>.nii.gz`` on the grid of the case's stored scan.

    Raises:
        OutputError: the folder cannot be written.
    """
    with as_output_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{case.id}__prediction.nii.gz", segmentation.prediction, case.scan_affine)
        for label in segmentation.similarity:
            _write(folder / f"{case.id}__map{label}.nii.gz", segmentation.map_of(label), case.scan_affine)


def _write(path: Path, array: NDArray[Any], affine: Affine | None) -> None:
    """An array ``(D, H, W)`` and its affine to LPS millimetres; NIfTI's codes say "unknown" where it is None."""
    from nibabel import Nifti1Image, save

    image = Nifti1Image(array.T, None if affine is None else _LPS_TO_RAS @ affine @ _REVERSED)
    image.header.set_xyzt_units("mm")
    save(image, path)

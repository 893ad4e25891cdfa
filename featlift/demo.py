"""Lay out the demo's scan and its labels: a real brain from the PyPI package nilearn. `make demo` does the rest."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from featlift.errors import InputError

_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


def copy_brain(folder: Path) -> None:
    """Copy the MNI152 T1 template (1 mm) into `folder`, with its tissues as labels: 1 grey matter, 2 white matter.

    Raises:
        InputError: nilearn is not installed.
    """
    spec = find_spec("nilearn")  # found without importing it and what it needs
    if spec is None or spec.origin is None:
        raise InputError("the demo's brain comes in the package nilearn: run `pip install 'featlift[demo]'`")
    data = Path(spec.origin).parent / "datasets" / "data"
    for name in ("scans", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(data / _FILE.format("t1"), folder / "scans" / "brain.nii.gz")
    _write_labels(data, folder / "labels" / "brain.nii.gz")


def _write_labels(data: Path, path: Path) -> None:
    """Each voxel is the tissue that makes up more than half of it."""
    import nibabel as nib
    import numpy as np

    grey, white = (nib.Nifti1Image.from_filename(data / _FILE.format(tissue)) for tissue in ("gm", "wm"))
    halves = [np.asarray(tissue.dataobj) > 127 for tissue in (grey, white)]  # fractions are stored as 0 to 255
    nib.save(nib.Nifti1Image(np.select(halves, (1, 2)).astype(np.uint8), grey.affine), path)


if __name__ == "__main__":
    copy_brain(Path(sys.argv[1]))

"""Lay out the demo's scans: a real brain from the PyPI package nilearn. `make demo` does the rest."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from featlift.errors import InputError

_FILES = {
    "scans/brain.nii.gz": "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "masks/grey_matter.nii.gz": "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
    "masks/white_matter.nii.gz": "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
}


def copy_brain(folder: Path) -> None:
    """Copy the MNI152 T1 template and its tissue maps (1 mm) into `folder`.

    Raises:
        InputError: nilearn is not installed.
    """
    spec = find_spec("nilearn")  # found without importing it and what it needs
    if spec is None or spec.origin is None:
        raise InputError("the demo's brain comes in the package nilearn: run `pip install 'featlift[demo]'`")
    for name, original in _FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(spec.origin).parent / "datasets" / "data" / original, folder / name)


if __name__ == "__main__":
    copy_brain(Path(sys.argv[1]))

"""A picture as NIfTI, for ITK-SNAP, 3D Slicer, FSLeyes and nilearn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featlift.exporting.picture import Picture
from featlift.volumes.nifti import write_nifti

_RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])  # NIfTI's own type of colours


def write_picture(path: Path, picture: Picture) -> None:
    """Write colours as RGB24, one channel as a volume, several as a fourth axis.

    Args:
        path: ends in .nii or .nii.gz.
        picture: what to write.

    Raises:
        OSError: the file cannot be written.
    """
    values = picture.values.view(_RGB24)[..., 0] if picture.is_coloured else picture.values
    write_nifti(path, values[0] if len(values) == 1 and values.ndim == 4 else values, picture.affine)

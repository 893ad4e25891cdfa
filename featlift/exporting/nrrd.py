"""A picture as NRRD, for 3D Slicer and everything that is built on ITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from featlift.errors import OptionError
from featlift.exporting.picture import Picture

_COMPRESSION = 1  # of gzip; 9, the library's own, takes ten times as long for a few percent


def write_nrrd(path: Path, picture: Picture) -> None:
    """Write colours or channels as one vector a voxel, a single channel as a volume.

    Args:
        path: ends in .nrrd.
        picture: what to write. Where its geometry is unknown the file states no space.

    Raises:
        OptionError: pynrrd is not installed.
        OSError: the file cannot be written.
    """
    nrrd = pynrrd()
    values = picture.values if picture.is_coloured else np.moveaxis(picture.values, 0, -1)  # (D, H, W, K)
    kinds = ["RGB-color" if picture.is_coloured else "vector"] if values.shape[-1] > 1 else []
    values = values if kinds else values[..., 0]
    header: dict[str, Any] = {"kinds": kinds + ["domain"] * 3}
    if picture.affine is not None:
        nowhere = [np.full(3, np.nan) for _ in kinds]  # a vector's axis has no direction
        header["space"] = "left-posterior-superior"
        header["space directions"] = np.array([*nowhere, *picture.affine[:3, 2::-1].T])  # the fastest axis, w, first
        header["space origin"] = picture.affine[:3, 3]
    nrrd.write(str(path), values.T, header, compression_level=_COMPRESSION)


def pynrrd() -> Any:
    """The package, or an `OptionError` that says how to get it."""
    try:
        import nrrd
    except ImportError as error:
        raise OptionError("--to nrrd needs pynrrd: pip install 'featlift[pictures]'") from error
    return nrrd

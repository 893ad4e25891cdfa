"""Files of one slice, which readers of volumes refuse, and scans that say nothing of where they lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.checksums import sha256_of_file
from featlift.errors import InputError, VolumeError
from featlift.volumes import Scan
from featlift.volumes.reading import read, read_mask
from featlift.volumes.source import MaskFile, Source
from featlift.volumes.volume import Affine, Volume, lps_ras

#: Voxels as units: w runs along x, h along y, d along z.
VOXELS: Affine = np.eye(4)[[2, 1, 0, 3]]

_PICTURES = (".png", ".jpg", ".jpeg")


def on_voxels(volume: Volume, affine: Affine | None) -> Volume:
    """A scan whose voxels are those of a grid, index by index from the first one; None counts voxels."""
    return replace(volume, affine=VOXELS if affine is None else affine)


def read_slice(path: str | Path) -> Volume | None:
    """A file of one slice as a volume with an axis of one voxel; None for any other file.

    PNG, JPEG and TIFF of one page, colours as their luminance; NIfTI of one slice.

    Raises:
        InputError: no such picture.
        VolumeError: it cannot be read.
    """
    path = Path(path)
    found = (_picture(path), None) if _is_picture(path) else flat_nifti(path)
    if found is None or len(found[0]) != 1:
        return None
    source = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    return Volume(found[0][0].astype(np.float32), found[1], source=source)


def read_any(path: str | Path) -> Volume:
    """A slice or a volume.

    Raises:
        InputError: no such file.
        VolumeError: it cannot be read.
    """
    return read_slice(path) or read(path)


def read_any_mask(mask: MaskFile) -> Volume:
    """A mask of a slice or of a volume, see `featlift.read_mask`; raises as `read_any`."""
    return (None if isinstance(mask, Source) else read_slice(mask)) or read_mask(mask)


def slice_of(scan: Scan) -> Volume | None:
    """`read_slice` of a scan that was found; None for any that is no slice."""
    (source, *others) = scan.sources
    if others or source.key is not None or source.frame is not None or not isinstance(source.path, Path):
        return None
    return read_slice(source.path) if source.path.is_file() else None


def flat_nifti(path: Path) -> tuple[NDArray[Any], Affine | None] | None:
    """What a NIfTI file of one slice holds: ``(C, D, H, W)``, one of the last three being 1, and its affine.

    None for any other file, damaged ones as well: readers of volumes know what to say of these.
    """
    import nibabel

    if not path.name.lower().endswith((".nii", ".nii.gz")) or not path.is_file():
        return None
    try:
        image: Any = nibabel.load(path)
        shape = (*image.shape, 1)[:3]
        if sum(size > 1 for size in shape) != 2:
            return None
        array = np.asarray(image.dataobj).T.reshape(-1, *shape[::-1])
    except Exception:  # nibabel raises many kinds on damaged files
        return None
    known = image.header["sform_code"] or image.header["qform_code"]
    return array, lps_ras(image.affine) if known else None


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in _PICTURES:
        return True
    if path.suffix.lower() not in (".tif", ".tiff") or not path.is_file():
        return False
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return len(file.pages) == 1
    except Exception:  # readers of volumes know what to say of it
        return False


def _picture(path: Path) -> NDArray[Any]:
    """A picture as ``(1, 1, H, W)``."""
    from skimage.color import rgb2gray
    from skimage.io import imread

    if not path.is_file():
        raise InputError(f"{path.name}: no such file")
    try:
        array = np.asarray(imread(path))
    except Exception as error:  # its readers raise many kinds on damaged files
        raise VolumeError(f"{path.name}: not a readable picture: save it again") from error
    if array.ndim == 3:  # grey with alpha, colour, colour with alpha
        array = array[..., 0] if array.shape[2] < 3 else rgb2gray(array[..., :3].astype(np.float64))
    if array.ndim != 2:
        raise VolumeError(f"{path.name}: several pictures in one: save one of them")
    return array[None, None]

"""`read`: the one volume at a path or URL; `read_mask`: its labels, whatever tool wrote them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from featlift.remote import Remote
from featlift.volumes.discovery.mask_labels import mask_at
from featlift.volumes.discovery.series import source_of
from featlift.volumes.opening import MAX_VOXELS, Reading, read_source
from featlift.volumes.source import MaskFile, Source, as_mask, place_and_key
from featlift.volumes.volume import Volume


def read(
    path: str | Path | Remote,
    *,
    key: str | None = None,
    frame: int | None = None,
    max_voxels: int = MAX_VOXELS,
    allow_irregular: bool = False,
) -> Volume:
    """Read one volume.

    Args:
        path: a NIfTI, Analyze, NRRD, MetaImage, NumPy, HDF5, Zarr, OME-Zarr or TIFF file, or a folder or .zip with one
            DICOM series; or the URL of one, such as ``s3://bucket/scan.nii.gz``, which is fetched whole.
            ``file.h5::name`` is the array `name` of a file that holds several.
        key: that name.
        frame: which of several frames (time points, echoes, sequences), counted from 0.
        max_voxels: refuse larger volumes before allocating.
        allow_irregular: bring DICOM slices at irregular positions onto a regular grid.

    Returns:
        The volume with axes in the order of the file: its fastest axis last.

    Raises:
        InputError: no such file.
        VolumeError: not readable, or not one 3D volume of one value a voxel.
    """
    source = source_of(path)
    source = replace(source, key=key or source.key, frame=frame)
    return read_source(source, Reading(max_voxels, allow_irregular))


def read_mask(mask: MaskFile | Remote) -> Volume:
    """Read one mask, as `find_masks` gives it or as a path or URL of what `read` reads.

    Beyond that: one-hot channels in four dimensions, where channel k is label k + 1, or k where channel 0 is what the
    others leave; a folder with a file for each structure; segmentations of 3D Slicer (.seg.nrrd); DICOM SEG and
    RTSTRUCT. A voxel of several structures is the smallest one's.

    Returns:
        The volume of whole numbers, 0 for background.

    Raises:
        InputError: no such file.
        VolumeError: not readable; structures on several grids or not binary; channels that overlap.
    """
    return read_source(source_of_mask(mask))


def source_of_mask(mask: MaskFile | Remote) -> Source:
    """Where a mask is, to be read as labels.

    Raises:
        InputError: a folder or .zip without one series, or contours without theirs.
    """
    if isinstance(mask, Source):
        return as_mask(mask)
    place, key = place_and_key(mask)
    own = mask_at(place) if isinstance(place, Path) and not key else None
    return own or as_mask(source_of(mask))

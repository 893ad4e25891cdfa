"""Masks of many objects as files, their ids and their place exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from featlift.atomic_io import write_atomically, write_folder_atomically
from featlift.errors import OptionError, VolumeError
from featlift.volumes.formats import suffix_of
from featlift.volumes.formats.arrays import cremi_affine
from featlift.volumes.instances import NANOMETRES, Instances
from featlift.volumes.nifti import write_nifti
from featlift.volumes.volume import Affine, spacing_of

#: The array of the ids in files of CREMI's layout.
NEURON_IDS = "volumes/labels/neuron_ids"

_HDF5, _NIFTI, _ZARR = (".h5", ".hdf5", ".hdf"), (".nii", ".nii.gz"), ".zarr"
_CHUNK = (16, 256, 256)  # voxels of Zarr


def write_instances(path: str | Path, instances: Instances) -> Path:
    """Write one mask of objects, whole or not at all; `read_instances` gives back the same ids.

    Args:
        path: ``.h5``, ``.hdf5`` or ``.hdf`` for CREMI's layout, uint64 in ``volumes/labels/neuron_ids`` with
            ``resolution`` and ``offset`` in nanometres; ``.zarr`` for the same as Zarr (v3); ``.nii`` or ``.nii.gz``
            for NIfTI, of the smallest type that holds the ids. None says where a mask lies that has no affine.
        instances: what is written.

    Raises:
        OptionError: another suffix.
        VolumeError: axes that CREMI's layout cannot say: turned or flipped ones.
        OutputError: the folder cannot be written.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix in _NIFTI:
        smallest = instances.array.astype(np.min_scalar_type(int(instances.array.max())))
        write_atomically(path, lambda draft: write_nifti(draft, smallest, instances.affine))
    elif suffix in _HDF5:
        attributes = cremi_attributes(instances.affine)
        write_atomically(path, lambda draft: _write_cremi(draft, instances, attributes))
    elif suffix == _ZARR:
        attributes = cremi_attributes(instances.affine)
        write_folder_atomically(path, lambda draft: _write_zarr(draft, instances, attributes))
    else:
        raise OptionError(f"{path.name}: masks of instances are written as {', '.join((*_HDF5, _ZARR, *_NIFTI))}")
    return path


def _write_cremi(path: Path, instances: Instances, attributes: dict[str, Any]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset(NEURON_IDS, data=instances.array, compression="gzip", compression_opts=1).attrs.update(
            attributes
        )


def _write_zarr(path: Path, instances: Instances, attributes: dict[str, Any]) -> None:
    import zarr
    from zarr.codecs import GzipCodec

    array = zarr.open_group(path, mode="w-", zarr_format=3).create_array(
        NEURON_IDS,
        shape=instances.array.shape,
        dtype=instances.array.dtype,
        chunks=tuple(map(min, _CHUNK, instances.array.shape)),
        compressors=GzipCodec(level=1),
        attributes={name: value.tolist() for name, value in attributes.items()},
    )
    for first in range(0, len(instances.array), _CHUNK[0]):  # all at once, every chunk would be in memory twice
        array[first : first + _CHUNK[0]] = instances.array[first : first + _CHUNK[0]]


def cremi_attributes(affine: Affine | None) -> dict[str, Any]:
    """Resolution and offset in nanometres along z, y, x; nothing of an unknown affine.

    Raises:
        VolumeError: axes that CREMI's layout cannot say.
    """
    if affine is None:
        return {}
    resolution = np.array(spacing_of(affine)) * NANOMETRES
    attributes = {"resolution": resolution, "offset": affine[2::-1, 3] * NANOMETRES}
    placed = cremi_affine(NEURON_IDS, attributes)
    if placed is None or not np.allclose(placed, affine, rtol=1e-6, atol=1e-12):
        raise VolumeError("CREMI's layout has no turned or flipped axes: write it as NIfTI (.nii.gz)")
    return attributes

"""Masks of many objects as files, their ids and their place exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from featlift.atomic_io import write_atomically
from featlift.errors import OptionError, VolumeError
from featlift.volumes.formats import suffix_of
from featlift.volumes.formats.arrays import cremi_affine
from featlift.volumes.instances import NANOMETRES, Instances
from featlift.volumes.nifti import write_nifti

#: The array of the ids in files of CREMI's layout.
NEURON_IDS = "volumes/labels/neuron_ids"

_HDF5, _NIFTI = (".h5", ".hdf5", ".hdf"), (".nii", ".nii.gz")


def write_instances(path: str | Path, instances: Instances) -> Path:
    """Write one mask of objects, whole or not at all; `read_instances` gives back the same ids.

    Args:
        path: ``.h5``, ``.hdf5`` or ``.hdf`` for CREMI's layout, uint64 in ``volumes/labels/neuron_ids`` with
            ``resolution`` and ``offset`` in nanometres; ``.nii`` or ``.nii.gz`` for NIfTI, of the smallest type that
            holds the ids. Neither says where a mask lies that has no affine.
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
        attributes = _cremi_attributes(instances)
        write_atomically(path, lambda draft: _write_cremi(draft, instances, attributes))
    else:
        raise OptionError(f"{path.name}: masks of instances are written as {', '.join((*_HDF5, *_NIFTI))}")
    return path


def _write_cremi(path: Path, instances: Instances, attributes: dict[str, Any]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset(NEURON_IDS, data=instances.array, compression="gzip", compression_opts=1).attrs.update(
            attributes
        )


def _cremi_attributes(instances: Instances) -> dict[str, Any]:
    """Resolution and offset in nanometres along z, y, x."""
    if instances.affine is None:
        return {}
    offset = instances.affine[2::-1, 3] * NANOMETRES
    attributes = {"resolution": np.array(instances.resolution), "offset": offset}
    placed = cremi_affine(NEURON_IDS, attributes)
    if placed is None or not np.allclose(placed, instances.affine, rtol=1e-6, atol=1e-12):
        raise VolumeError("CREMI's layout has no turned or flipped axes: write it as NIfTI (.nii.gz)")
    return attributes

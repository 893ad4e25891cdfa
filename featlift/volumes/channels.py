"""Three images of one patient as the three channels that a backbone has: MR sequences, PET and CT."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featlift.errors import VolumeError
from featlift.volumes.fetching import fetched
from featlift.volumes.grid import Shape, on_grid
from featlift.volumes.opening import Reading, identity, read_source, signature
from featlift.volumes.preparation import ChannelEdges
from featlift.volumes.scan import Scan
from featlift.volumes.volume import Affine, Volume


def read_scan(scan: Scan, reading: Reading | None = None, edges: ChannelEdges = "edge") -> Volume:
    """Read a scan; if it has several sources, as channels on the grid of the first.

    Args:
        scan: where it is.
        reading: how far reading may go.
        edges: how channels on other grids end.

    Raises:
        InputError: a file is missing.
        VolumeError: a file is not readable, or the images cannot be brought together.
    """
    reading = reading or Reading()
    if len(scan.sources) == 1:
        return read_source(scan.sources[0], reading)
    known = signature(scan.sources)
    with fetched(scan.sources) as sources:
        identified = {**identity(sources), **known}
        volumes = [read_source(source, reading) for source in sources]
    first = volumes[0]
    return replace(
        first,
        array=np.stack([_on_grid_of(first, volume, number, edges) for number, volume in enumerate(volumes)]),
        source=identified,
        notes={f"channel {number}": volume.notes for number, volume in enumerate(volumes) if volume.notes},
    )


def _on_grid_of(first: Volume, other: Volume, number: int, edges: ChannelEdges) -> NDArray[np.float32]:
    same_shape = other.array.shape == first.array.shape
    if first.affine is None or other.affine is None:
        if not same_shape:
            raise VolumeError(f"channel {number} has another shape than channel 0, and one does not say where it lies")
        return other.array
    if same_shape and np.allclose(first.affine, other.affine, atol=1e-3):  # micrometres: rounding of headers
        return other.array
    depth, height, width = first.array.shape
    lowest = float(other.array.min())
    onto = on_grid if edges == "edge" else _mixed_with_beyond
    values = onto(other.array, other.affine, (depth, height, width), first.affine, order=1, fill_value=lowest)
    if values.min() == values.max():
        raise VolumeError(f"channel {number} does not overlap channel 0: are they of one patient?")
    return values


def _mixed_with_beyond(
    array: NDArray[np.float32], affine: Affine, shape: Shape, onto: Affine, order: int, fill_value: float
) -> NDArray[np.float32]:
    """`on_grid` as it was: only for stores that began so, whose volumes have to stay alike."""
    from scipy.ndimage import affine_transform

    to_array = np.linalg.solve(affine, onto)
    values: NDArray[np.float32] = affine_transform(
        array, to_array[:3, :3], to_array[:3, 3], output_shape=shape, order=order, mode="grid-constant", cval=fill_value
    )
    return values

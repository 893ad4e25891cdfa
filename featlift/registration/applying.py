"""Transforms of files applied to images: what `featlift register apply` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import check_writable, write_atomically
from featlift.errors import OptionError, VolumeError
from featlift.registration.field import DisplacementField
from featlift.registration.slices import VOXELS, on_voxels, read_any, read_slice
from featlift.registration.transforms import TRANSFORMS, LinearTransform, Transform, warp
from featlift.volumes.discovery.series import source_of
from featlift.volumes.grid import Shape
from featlift.volumes.nifti import write_nifti
from featlift.volumes.opening import open_image
from featlift.volumes.source import place_and_key
from featlift.volumes.volume import Affine, Volume

#: How labels are interpolated.
LabelInterpolation = Literal["nearest", "linear"]


def apply_transforms(
    transforms: Sequence[str | Path],
    image: str | Path,
    like: str | Path,
    output: str | Path,
    labels: bool = False,
    voxels: bool = False,
    interpolation: LabelInterpolation = "nearest",
) -> None:
    """Bring an image in the space of the moving scan onto the voxels of another, each value interpolated once.

    Args:
        transforms: paths of displacement fields in LPS millimetres and of linear transforms that SimpleITK reads, in
            the order in which they were found, which is that of ITK's CompositeTransform; see `transforms.warp`.
        image: of what to warp.
        like: of a scan whose voxels the result has, such as the fixed one.
        output: file to write, ending in .nii or .nii.gz.
        labels: these are labels, 0 outside; otherwise values are linear, the lowest outside.
        voxels: the image lies on the voxels of `like`, see `featlift.registration.files.register_files`.

        interpolation: of labels: the ``nearest`` voxel's, or the one of which there is most when each is interpolated
            by itself (``linear``): smoother borders, in the time of as many warps as there are labels.

    Raises:
        InputError: no such file.
        OptionError: a name that is no NIfTI file's.
        VolumeError: no field, unknown geometry, labels that are no whole numbers, or spaces that do not meet.
        OutputError: the file cannot be written.
    """
    output = Path(output)
    if not output.name.endswith((".nii", ".nii.gz")):
        raise OptionError(f"{output.name}: give a name that ends in .nii.gz")
    check_writable(output.parent)
    shape, onto = _grid(like)
    chain, scan = [_transform(path) for path in transforms], read_any(image)
    if voxels:
        onto = VOXELS if onto is None else onto
        scan = on_voxels(scan, onto)
    if onto is None:
        raise VolumeError(
            f"{place_and_key(like)[0].name} does not say where it lies (no affine): give another for --like, or "
            "--grid voxels"
        )
    if labels and not (scan.array == np.round(scan.array)).all():
        raise VolumeError(
            f"{place_and_key(image)[0].name} holds fractions: labels are whole numbers, leave --labels out"
        )
    if isinstance(chain[-1], DisplacementField):  # places of the grid come to it first
        chain[-1].check_grid(shape, onto)
    if labels and interpolation == "linear":
        values: NDArray[Any] = _most_of(chain, scan, shape, onto)
    elif labels:
        values = warp(chain, scan, shape, onto, 0, 0.0).astype(np.int32)
    else:
        values = warp(chain, scan, shape, onto, 1, float(scan.array.min()))
    write_atomically(output, partial(write_nifti, array=values, affine=onto))


def _most_of(chain: Sequence[Transform], scan: Volume, shape: Shape, onto: Affine) -> NDArray[np.int32]:
    """The label, background among them, of which there is most at each voxel; of equals the lowest."""
    found, most, rest = np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.ones(shape, np.float32)
    for label in np.unique(scan.array[scan.array != 0]):
        share = warp(chain, replace(scan, array=(scan.array == label).astype(np.float32)), shape, onto, 1, 0.0)
        rest -= share
        more = share > most
        found[more], most[more] = int(label), share[more]
    found[rest >= most] = 0
    return found


def _transform(path: str | Path) -> Transform:
    """A transform of a file."""
    if str(path).lower().endswith(TRANSFORMS):
        return LinearTransform.read(Path(path))
    return DisplacementField.read(path)


def _grid(path: str | Path) -> tuple[Shape, Affine | None]:
    """(D, H, W) of a scan, and its affine."""
    if (slice_ := read_slice(path)) is not None:
        depth, height, width = slice_.array.shape
        return (depth, height, width), slice_.affine
    image = open_image(source_of(path))
    return image.shape, image.affine

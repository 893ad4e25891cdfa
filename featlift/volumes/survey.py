"""`survey`: what reading and preparing would trip over, scan by scan, from headers or from voxels too."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import FeatliftError, VolumeError
from featlift.processes import ending
from featlift.volumes.channels import read_scan
from featlift.volumes.formats import suffix_of
from featlift.volumes.grid import Shape
from featlift.volumes.image import Image
from featlift.volumes.masks import labels_on
from featlift.volumes.opening import Reading, check_header, open_image, read_source, signature
from featlift.volumes.preparation import Preparation, expected_grids, prepare
from featlift.volumes.scan import Scan
from featlift.volumes.source import as_mask
from featlift.volumes.volume import Affine, spacing_of

_SAME_PLACE = 1e-3  # mm: rounding of headers
_AIR = (-1100, -500)  # HU
_FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Surveyed:
    """What is known of one scan. Shapes and spacings are along (D, H, W) as lifting will see them, after orienting.

    Attributes:
        id: case id.
        name: the path below the input folder.
        format: ``.nii.gz``, ..., or ``DICOM``.
        failure: why `extract` would fail on it; empty if nothing that was looked at says so.
        bytes: of its files.
        modality: if the files say.
        orientation: where the axes W, H and D of the file run, such as ``LPS``; None where the file does not say.
        shape: voxels.
        spacing: millimetres; None where the file does not say.
        lifted_shape: voxels that reach the backbone, before padding; without voxels a crop is not known.
        lifted_spacing: of those.
        channels: of what reaches the backbone.
        minimum: of the finite voxels; None if voxels were not read.
        maximum: likewise.
        air: share of the finite voxels from -1100 to -500, where air and lungs lie in HU; None if they were not read.
        not_finite: how many voxels are NaN or infinite; None if they were not read.
        mask: empty if it has none, else how its grid lies: ``same grid``, ``another grid``.
        mask_problem: why its mask is of no use.
    """

    id: str
    name: str
    format: str
    failure: str = ""
    bytes: int | None = None
    modality: str | None = None
    orientation: str | None = None
    shape: Shape | None = None
    spacing: tuple[float, float, float] | None = None
    lifted_shape: Shape | None = None
    lifted_spacing: tuple[float, float, float] | None = None
    channels: int = 1
    minimum: float | None = None
    maximum: float | None = None
    air: float | None = None
    not_finite: int | None = None
    mask: str = ""
    mask_problem: str = ""


def survey(
    scans: Sequence[Scan],
    preparation: Preparation,
    reading: Reading,
    with_voxels: Collection[str] = (),
    workers: int = 1,
) -> Iterator[Surveyed]:
    """Look at scans in processes of their own, so that a file whose reading ends one costs that file only.

    Args:
        scans: to look at.
        preparation: that they would go through.
        reading: how far reading may go.
        with_voxels: ids of those whose voxels are read and prepared, as `extract` would; of others the header is read.
        workers: processes.

    Returns:
        What is known of each, in the order of `scans`.
    """
    from pebble import ProcessPool

    with ProcessPool(max_workers=min(workers, max(1, len(scans))), context=get_context("spawn")) as pool:
        try:
            looks = [pool.schedule(look, (scan, preparation, reading, scan.id in with_voxels)) for scan in scans]
            for scan, seen in zip(scans, looks, strict=True):
                yield _outcome(scan, seen)
        except BaseException:  # also of the one who asked for the next
            pool.stop()
            raise


def look(scan: Scan, preparation: Preparation, reading: Reading, with_voxels: bool) -> Surveyed:
    """Look at one scan, in this process."""
    facts: dict[str, Any] = {}
    try:
        images = _look_at_headers(scan, preparation, reading, facts)
        if scan.mask:
            facts.update(_of_mask(scan, images[0], with_voxels))
        if with_voxels:
            _look_at_voxels(scan, preparation, reading, facts)
    except FeatliftError as error:
        only = scan.sources[0].path.name if len(scan.sources) == 1 else ""  # of several, the one that fails is named
        facts["failure"] = str(error).removeprefix(f"{only}: ")
    except MemoryError:
        facts["failure"] = "too large for the memory of this machine"
    return Surveyed(scan.id, scan.name, _format_of(scan), **facts)


def _outcome(scan: Scan, seen: Future[Surveyed]) -> Surveyed:
    from pebble import ProcessExpired

    try:
        return seen.result()
    except ProcessExpired as expired:
        how = ending(expired.exitcode)
        failure = (
            f"reading it ends the process ({how}): the file is damaged, or memory ran out; leave it out (--exclude)"
        )
    except Exception as error:  # a reader's own, which `extract` would report too
        failure = f"{type(error).__name__}: {error}"
    return Surveyed(scan.id, scan.name, _format_of(scan), failure)


def _format_of(scan: Scan) -> str:
    source = scan.sources[0]
    return "DICOM" if source.members else suffix_of(source.path) or source.path.suffix or "unknown"


def _look_at_headers(scan: Scan, preparation: Preparation, reading: Reading, facts: dict[str, Any]) -> list[Image]:
    """Read the headers, tell `facts` what they say, and refuse what they show to be of no use."""
    images = [check_header(source, reading) for source in scan.sources]
    first = images[0]
    facts.update(
        modality=first.modality, orientation=_orientation(first.affine), bytes=signature(scan.sources)["bytes"]
    )
    (shape, affine), *_ = expected_grids(first.shape, first.affine, Preparation(orient=preparation.orient))
    facts.update(shape=shape, spacing=_spacing(affine))
    for number, other in enumerate(images[1:], start=1):
        if other.shape != first.shape and (first.affine is None or other.affine is None):
            raise VolumeError(f"channel {number} has another shape than channel 0, and one does not say where it lies")
    channels = preparation.intensity.channels_of(len(images))
    *_, (shape, affine) = expected_grids(first.shape, first.affine, preparation, scan.centre)
    facts.update(lifted_shape=shape, lifted_spacing=_spacing(affine), channels=channels)
    return images


def _look_at_voxels(scan: Scan, preparation: Preparation, reading: Reading, facts: dict[str, Any]) -> None:
    """Read and prepare the scan as `extract` does, and tell `facts` of its values."""
    volume = read_scan(scan, reading)
    finite = np.isfinite(volume.array)
    facts["not_finite"] = volume.array.size - int(finite.sum())
    values: NDArray[np.float32] = volume.array[finite] if facts["not_finite"] else volume.array
    if values.size:
        air = np.count_nonzero((values >= _AIR[0]) & (values <= _AIR[1])) / values.size
        facts.update(minimum=float(values.min()), maximum=float(values.max()), air=air)
    prepared = prepare(volume, preparation, scan.centre)
    facts.update(lifted_shape=prepared.shape, lifted_spacing=_spacing(prepared.affine))
    if np.abs(prepared.scan).max() > _FLOAT16_MAX:
        raise VolumeError("its intensities are beyond what a store holds (65504): choose another --intensity")


def _of_mask(scan: Scan, image: Image, with_voxels: bool) -> dict[str, str]:
    """How the mask lies on its scan, or why it is of no use."""
    assert scan.mask is not None
    try:
        mask = open_image(as_mask(scan.mask))
        if image.affine is None or mask.affine is None:
            if mask.shape != image.shape:
                raise VolumeError("its grid is another, and it or the scan does not say where it lies")
            lies = "same grid"
        else:
            same = mask.shape == image.shape and np.allclose(mask.affine, image.affine, atol=_SAME_PLACE)
            lies = "same grid" if same else "another grid"
            if not _overlap(image, mask):
                raise VolumeError("it lies outside of the scan: are they of one patient, and is its orientation right?")
        if with_voxels:
            labels_on(read_source(as_mask(scan.mask)), image.shape, image.affine)
    except FeatliftError as error:
        return {"mask": "no use", "mask_problem": str(error).removeprefix(f"{scan.mask.path.name}: ")}
    return {"mask": lies}


def _overlap(one: Image, other: Image) -> bool:
    """Whether the boxes around two images in the patient have something in common."""
    (low, high), (others_low, others_high) = _box(one), _box(other)
    return bool(((low <= others_high) & (others_low <= high)).all())


def _box(image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and the highest x, y, z of an image's corners, half a voxel beyond the outermost centres."""
    assert image.affine is not None
    ends = np.array([[-0.5, n - 0.5] for n in image.shape])
    corners = np.stack([axis.ravel() for axis in np.meshgrid(*ends)])
    points = image.affine[:3, :3] @ corners + image.affine[:3, 3:]
    return points.min(axis=1), points.max(axis=1)


def _orientation(affine: Affine | None) -> str | None:
    """Where the axes run that are columns, rows and slices of the file, in letters, such as ``LPS``."""
    if affine is None:
        return None
    from nibabel.orientations import aff2axcodes

    codes = aff2axcodes(affine, labels=(("R", "L"), ("A", "P"), ("I", "S")))
    return "".join(codes[::-1])


def _spacing(affine: Affine | None) -> tuple[float, float, float] | None:
    return None if affine is None else spacing_of(affine)

"""Registration from files to files: what `featlift register` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from featlift.atomic_io import check_writable, write_atomically
from featlift.backbones.precision import resolve_device
from featlift.config import ExtractConfig
from featlift.errors import OptionError, VolumeError
from featlift.extraction import extract, lifted_network, make_recipe
from featlift.progress import Progress
from featlift.registration.field import DisplacementField
from featlift.registration.inverse import inverted
from featlift.registration.pairs import PairSettings, Registered, check_pair, register
from featlift.registration.slices import VOXELS, on_voxels, read_slice
from featlift.registration.transforms import TRANSFORMS, LinearTransform, Transform, simpleitk, warp
from featlift.sizes import parse_size
from featlift.store.output_spec import OutputSpec
from featlift.timing import timed
from featlift.version import __version__
from featlift.volumes import Preparation, Reading
from featlift.volumes.discovery.series import source_of
from featlift.volumes.grid import Shape
from featlift.volumes.nifti import write_nifti
from featlift.volumes.opening import open_image
from featlift.volumes.reading import read
from featlift.volumes.source import place_and_key
from featlift.volumes.volume import Affine, Volume

FIELD, WARPED, RUN = "field.nii.gz", "warped.nii.gz", "run.json"
AFFINE, INVERSE = "affine.tfm", "inverse.nii.gz"


def register_files(
    fixed: str | Path,
    moving: str | Path,
    folder: str | Path,
    settings: PairSettings,
    config: ExtractConfig | None = None,
    progress: Progress | None = None,
    inverse: bool = False,
    masks: tuple[str | Path, str | Path] | None = None,
    voxels: bool = False,
    notify: Callable[[str], object] | None = None,
) -> Registered:
    """Register two scans and write ``field.nii.gz``, ``warped.nii.gz`` and, last, ``run.json``.

    With an affine stage ``affine.tfm`` is what that found, and the field is of both.

    Args:
        fixed: path or URL of the fixed scan.
        moving: of the moving one.
        folder: for the files, in the place of older ones.
        settings: how.
        config: the device; how scans are read; and where a network makes features, which, and how it is lifted.
        progress: told of the iterations.
        inverse: write ``inverse.nii.gz`` as well, on the voxels of the moving scan.
        masks: of the bodies in both, for `PairSettings.body`.
        voxels: all lie on the voxels of the fixed scan, whatever they say of themselves; where that does not say where
            it lies either, its voxels are 1 mm.
        notify: see `register`.

    Raises:
        InputError: no such file.
        VolumeError, OptionError: see `register`.
        ModelError: no such model or device.
        OutputError: the folder cannot be written.
    """
    folder, config = Path(folder), config or ExtractConfig()
    config.check()
    if settings.memory is None:
        settings = replace(settings, memory=parse_size(config.lifting.memory))
    check_writable(folder)
    if settings.affine != "none":
        simpleitk()  # missing packages are told of first
    device = resolve_device(config.network.device)
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        fixed_scan, moving_scan = _read(fixed, config), _read(moving, config)
        bodies = None if masks is None else (_mask(masks[0]), _mask(masks[1]))
        if voxels:
            grid = fixed_scan.affine
            fixed_scan, moving_scan = on_voxels(fixed_scan, grid), on_voxels(moving_scan, grid)
            bodies = None if bodies is None else (on_voxels(bodies[0], grid), on_voxels(bodies[1], grid))
        check_pair(fixed_scan, moving_scan, settings.affine)
    recipe, features_of_scan = None, None
    if settings.needs_model:
        with timed(seconds, "model"):
            encoder = lifted_network(config.network, config.lifting)
        preparation = Preparation.of(config.preparation)
        recipe = make_recipe(encoder, preparation, OutputSpec())
        features_of_scan = partial(extract, model=encoder, preparation=preparation)
    found = register(fixed_scan, moving_scan, settings, features_of_scan, device, progress, bodies, notify)
    with timed(seconds, "write"):
        for name in (AFFINE, INVERSE):
            (folder / name).unlink(missing_ok=True)  # of an earlier run
        if settings.affine != "none":
            LinearTransform(found.affine).write(folder / AFFINE)
        found.field.write(folder / FIELD)
        lowest = float(moving_scan.array.min())
        warped = found.field.warp(moving_scan, found.field.shape, found.field.affine, fill_value=lowest)
        write_atomically(folder / WARPED, partial(write_nifti, array=warped, affine=found.field.affine))
    if inverse:
        with timed(seconds, "inverse"):
            depth, height, width = moving_scan.array.shape
            assert moving_scan.affine is not None
            back = inverted(found.field, (depth, height, width), moving_scan.affine, found.affine)
            back.write(folder / INVERSE)
    run = {
        "registration": "convex-adam",
        "featlift": __version__,
        "device": str(device),
        "fixed": {"name": _name(fixed), **_identity(fixed_scan)},
        "moving": {"name": _name(moving), **_identity(moving_scan)},
        "settings": asdict(settings),
        "masks": None if masks is None else [_name(mask) for mask in masks],
        "geometry": "voxels" if voxels else "affine",
        "affine": None if settings.affine == "none" else found.affine.tolist(),
        "grid": {"shape": found.grid, "spacing": found.spacing},
        "metrics": found.metrics,
        "seconds": {name: round(value, 2) for name, value in (seconds | found.seconds).items()},
        "recipe": recipe,
    }
    text = json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / RUN, partial(Path.write_text, data=text, encoding="utf-8"))
    return found


def apply_transforms(
    transforms: Sequence[str | Path],
    image: str | Path,
    like: str | Path,
    output: str | Path,
    labels: bool = False,
    voxels: bool = False,
) -> None:
    """Bring an image in the space of the moving scan onto the voxels of another, each value interpolated once.

    Args:
        transforms: paths of displacement fields in LPS millimetres and of linear transforms that SimpleITK reads, in
            the order in which they were found, which is that of ITK's CompositeTransform; see `transforms.warp`.
        image: of what to warp.
        like: of a scan whose voxels the result has, such as the fixed one.
        output: file to write, ending in .nii or .nii.gz.
        labels: take the nearest label, 0 outside; otherwise values are linear, the lowest outside.
        voxels: the image lies on the voxels of `like`, see `register_files`.

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
    chain, scan = [_transform(path) for path in transforms], read_slice(image) or read(image)
    if voxels:
        onto = VOXELS if onto is None else onto
        scan = on_voxels(scan, onto)
    if onto is None:
        raise VolumeError(
            f"{_name(like)} does not say where it lies (no affine): give another for --like, or --grid voxels"
        )
    if labels and not (scan.array == np.round(scan.array)).all():
        raise VolumeError(f"{_name(image)} holds fractions: labels are whole numbers, leave --labels out")
    if isinstance(chain[-1], DisplacementField):  # places of the grid come to it first
        chain[-1].check_grid(shape, onto)
    outside = 0.0 if labels else float(scan.array.min())
    warped = warp(chain, scan, shape, onto, 0 if labels else 1, outside)
    values = warped.astype(np.int32) if labels else warped
    write_atomically(output, partial(write_nifti, array=values, affine=onto))


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


def _read(path: str | Path, config: ExtractConfig) -> Volume:
    """A scan as the configuration has it read."""
    reading, frame = Reading.of(config.reading), config.selection.frame
    if isinstance(frame, str):
        raise OptionError(f"--frame {frame}: a registration is of one frame each, give its number")
    return read_slice(path) or read(
        path,
        key=config.selection.key,
        frame=frame,
        max_voxels=reading.max_voxels,
        allow_irregular=reading.allow_irregular,
    )


def _mask(path: str | Path) -> Volume:
    return read_slice(path) or read(path)


def _name(path: str | Path) -> str:
    place, _ = place_and_key(path)
    return place.name


def _identity(volume: Volume) -> dict[str, object]:
    """What identifies its file beside a name, which may be given to another."""
    return {name: value for name, value in (volume.source or {}).items() if name in ("bytes", "sha256")}

"""Registration from files to files: what `featlift register` does."""

from __future__ import annotations

import json
from dataclasses import asdict
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
from featlift.registration.network.folder import Trained, read_network
from featlift.registration.network.running import register_by_network
from featlift.registration.pairs import PairSettings, Registered, check_pair, register
from featlift.store.output_spec import OutputSpec
from featlift.timing import timed
from featlift.version import __version__
from featlift.volumes import Preparation, Reading
from featlift.volumes.discovery.series import source_of
from featlift.volumes.nifti import write_nifti
from featlift.volumes.opening import open_image
from featlift.volumes.reading import read
from featlift.volumes.volume import Volume

FIELD, WARPED, RUN = "field.nii.gz", "warped.nii.gz", "run.json"


def register_files(
    fixed: str | Path,
    moving: str | Path,
    folder: str | Path,
    settings: PairSettings,
    config: ExtractConfig | None = None,
    progress: Progress | None = None,
    network: str | Path | None = None,
) -> Registered:
    """Register two scans and write ``field.nii.gz``, ``warped.nii.gz`` and, last, ``run.json``.

    Args:
        fixed: path or URL of the fixed scan.
        moving: of the moving one.
        folder: for the files, in the place of older ones.
        settings: how.
        config: the device; how scans are read; and where a network makes features, which, and how it is lifted.
        progress: told of the iterations.
        network: folder of a trained network, which gives the field, and says what it sees; of the settings ConvexAdam's
            Adam follows, if it has iterations. None searches.

    Raises:
        InputError: no such file, or no such network.
        StoreError: the network is damaged.
        VolumeError, OptionError: see `register` and `register_by_network`.
        ModelError: no such model or device.
        OutputError: the folder cannot be written.
    """
    folder, config = Path(folder), config or ExtractConfig()
    config.check()
    check_writable(folder)
    device = resolve_device(config.network.device)
    trained = None if network is None else read_network(network, device)
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        fixed_scan, moving_scan = _read(fixed, config), _read(moving, config)
        check_pair(fixed_scan, moving_scan)
    recipe, features_of_scan = None, None
    if settings.features != "mind" if trained is None else trained.sees_features:
        with timed(seconds, "model"):
            encoder = lifted_network(config.network, config.lifting)
        preparation = Preparation.of(config.preparation)
        recipe = make_recipe(encoder, preparation, OutputSpec())
        if trained is not None:
            trained.check_recipe(recipe)
        features_of_scan = partial(extract, model=encoder, preparation=preparation)
    if trained is None:
        found = register(fixed_scan, moving_scan, settings, features_of_scan, device, progress)
    else:
        ends = fixed_scan, moving_scan
        found = register_by_network(*ends, trained, settings.convex_adam, features_of_scan, device, progress)
    with timed(seconds, "write"):
        found.field.write(folder / FIELD)
        lowest = float(moving_scan.array.min())
        warped = found.field.warp(moving_scan, found.field.shape, found.field.affine, fill_value=lowest)
        write_atomically(folder / WARPED, partial(write_nifti, array=warped, affine=found.field.affine))
    run = {
        "registration": "convex-adam" if trained is None else "net",
        "featlift": __version__,
        "device": str(device),
        "fixed": {"name": _name(fixed), **_identity(fixed_scan)},
        "moving": {"name": _name(moving), **_identity(moving_scan)},
        "settings": asdict(settings) if trained is None else _settings_of(trained, settings),
        "grid": {"shape": found.grid, "spacing": found.spacing},
        "metrics": found.metrics,
        "seconds": {name: round(value, 2) for name, value in (seconds | found.seconds).items()},
        "recipe": recipe,
    }
    text = json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / RUN, partial(Path.write_text, data=text, encoding="utf-8"))
    return found


def apply_field(
    field: str | Path, image: str | Path, like: str | Path, output: str | Path, labels: bool = False
) -> None:
    """Bring an image in the space of the moving scan onto the voxels of another, each value interpolated once.

    Args:
        field: path of a displacement field in LPS millimetres.
        image: of what to warp.
        like: of a scan whose voxels the result has, such as the fixed one.
        output: file to write, ending in .nii or .nii.gz.
        labels: take the nearest label, 0 outside; otherwise values are linear, the lowest outside.

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
    grid = open_image(source_of(like))
    if grid.affine is None:
        raise VolumeError(f"{_name(like)} does not say where it lies (no affine): give another for --like")
    displacements, scan = DisplacementField.read(field), read(image)
    if labels and not (scan.array == np.round(scan.array)).all():
        raise VolumeError(f"{_name(image)} holds fractions: labels are whole numbers, leave --labels out")
    outside = 0.0 if labels else float(scan.array.min())
    warped = displacements.warp(scan, grid.shape, grid.affine, 0 if labels else 1, outside)
    values = warped.astype(np.int32) if labels else warped
    write_atomically(output, partial(write_nifti, array=values, affine=grid.affine))


def _read(path: str | Path, config: ExtractConfig) -> Volume:
    """A scan as the configuration has it read."""
    reading, frame = Reading.of(config.reading), config.selection.frame
    if isinstance(frame, str):
        raise OptionError(f"--frame {frame}: a registration is of one frame each, give its number")
    return read(
        path,
        key=config.selection.key,
        frame=frame,
        max_voxels=reading.max_voxels,
        allow_irregular=reading.allow_irregular,
    )


def _name(path: str | Path) -> str:
    return source_of(path).path.name


def _settings_of(trained: Trained, settings: PairSettings) -> dict[str, object]:
    """What decides a registration by a network."""
    network = {"name": trained.name, "weights_sha256": trained.sha256, "plan": trained.config.plan}
    return {"network": network, "convex_adam": asdict(settings.convex_adam)}


def _identity(volume: Volume) -> dict[str, object]:
    """What identifies its file beside a name, which may be given to another."""
    return {name: value for name, value in (volume.source or {}).items() if name in ("bytes", "sha256")}

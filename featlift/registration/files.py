"""Registration from files to files: what `featlift register` does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featlift.atomic_io import as_output_error, check_writable, write_atomically
from featlift.config import ExtractConfig
from featlift.errors import OptionError, StoreError, VolumeError
from featlift.processes import forget_peak_memory, peak_memory
from featlift.progress import Progress
from featlift.registration.cohorts import End, ScanCohort
from featlift.registration.field import DisplacementField
from featlift.registration.pairs import PairSettings, Registered, check_pair, register
from featlift.registration.plan import Plan
from featlift.timing import timed
from featlift.version import __version__
from featlift.volumes import Reading, Scan
from featlift.volumes.discovery.series import source_of
from featlift.volumes.nifti import write_nifti
from featlift.volumes.opening import open_image
from featlift.volumes.reading import read
from featlift.volumes.scan import case_id_of

FIELD, WARPED, RUN = "field.nii.gz", "warped.nii.gz", "run.json"


def register_files(
    fixed: str | Path,
    moving: str | Path,
    folder: str | Path,
    settings: PairSettings,
    config: ExtractConfig | None = None,
    progress: Progress | None = None,
) -> Registered:
    """Register two scans and write ``field.nii.gz``, ``warped.nii.gz`` and, last, ``run.json``.

    Args:
        fixed: path or URL of the fixed scan.
        moving: of the moving one.
        folder: for the files, in the place of older ones.
        settings: how.
        config: the device; how scans are read; and where a network makes features, which, and how it is lifted.
        progress: told of the iterations.

    Raises:
        InputError: no such file.
        VolumeError, OptionError: see `register`.
        ModelError: no such model or device.
        OutputError: the folder cannot be written.
    """
    folder, config = Path(folder), config or ExtractConfig()
    config.check()
    check_writable(folder)
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        ends = _end_of(fixed, config), _end_of(moving, config)
        check_pair(ends[0].volume, ends[1].volume)
    with timed(seconds, "model") if settings.features != "mind" else nullcontext():
        plan = Plan.of(settings, config)
    return register_pair(*ends, folder, plan, seconds, progress)


def register_pair(
    fixed: End,
    moving: End,
    folder: Path,
    plan: Plan,
    seconds: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Registered:
    """Register two scans that were read, see `register_files`; without voxels there is no ``warped.nii.gz``.

    Args:
        fixed: the scan that stays.
        moving: the scan that is brought onto it.
        folder: for the files, in the place of older ones. ``run.json`` says that they are whole.
        plan: how.
        seconds: that were spent before.
        progress: told of the iterations.

    Raises:
        VolumeError, OptionError: see `register`.
        OutputError: the folder cannot be written.
    """
    forget_peak_memory()
    cases = {end.volume: end.case for end in (fixed, moving) if end.case is not None}
    extract = plan.extract or (cases.__getitem__ if cases else None)
    found = register(fixed.volume, moving.volume, plan.settings, extract, plan.device, progress)
    writing: dict[str, float] = {}
    with timed(writing, "write"):
        with as_output_error(folder):
            for name in (RUN, WARPED):  # from here on the older files are not those of one registration
                (folder / name).unlink(missing_ok=True)
        found.field.write(folder / FIELD)
        if moving.voxels:
            lowest = float(moving.volume.array.min())
            warped = found.field.warp(moving.volume, found.field.shape, found.field.affine, fill_value=lowest)
            write_atomically(folder / WARPED, partial(write_nifti, array=warped, affine=found.field.affine))
    run = {
        "featlift": __version__,
        "device": str(plan.device),
        "fixed": {"id": fixed.id, "name": fixed.name, **fixed.identity},
        "moving": {"id": moving.id, "name": moving.name, **moving.identity},
        **plan.as_json(),
        "grid": {"shape": found.grid, "spacing": found.spacing},
        "metrics": found.metrics,
        "seconds": {name: round(value, 2) for name, value in {**(seconds or {}), **found.seconds, **writing}.items()},
        "peak_bytes": peak_memory(),
    }
    text = json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / RUN, partial(Path.write_text, data=text, encoding="utf-8"))
    return found


def read_run(folder: Path) -> dict[str, Any] | None:
    """What `register_pair` wrote of a pair that is done; None of any other.

    Raises:
        StoreError: it is damaged.
    """
    path = folder / RUN
    try:
        run = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable ({error}): remove its folder, and register the pair again") from error
    if not isinstance(run, dict) or not {"registration", "fixed", "moving", "settings"} <= run.keys():
        raise StoreError(f"{path}: not written by `featlift register run`")
    return run


def runs_in(folder: Path) -> dict[Path, dict[str, Any]]:
    """`read_run` of every pair that is done, by its folder: of one pair, or of all that lie in it."""
    places = [folder, *sorted(path.parent for path in folder.glob(f"*/{RUN}"))]
    return {place: run for place in places if (run := read_run(place)) is not None}


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


def _end_of(path: str | Path, config: ExtractConfig) -> End:
    """The scan at a path, as the configuration has it read."""
    frame = config.selection.frame
    if isinstance(frame, str):
        raise OptionError(f"--frame {frame}: a registration is of one frame each, give its number")
    source = source_of(path)
    source = replace(source, key=config.selection.key or source.key, frame=frame)
    case_id = case_id_of(source.path.name)
    return ScanCohort({case_id: Scan(case_id, source.path.name, (source,))}, Reading.of(config.reading)).load(case_id)


def _name(path: str | Path) -> str:
    return source_of(path).path.name

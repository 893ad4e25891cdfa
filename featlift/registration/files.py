"""Registration from files to files: what `featlift register run` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from featlift.atomic_io import as_output_error, check_writable, write_atomically
from featlift.config import ExtractConfig
from featlift.errors import OptionError, StoreError
from featlift.processes import forget_peak_memory, peak_memory
from featlift.progress import Progress
from featlift.registration.cohorts import End, ScanCohort, identity_of
from featlift.registration.convex_adam import ConvexAdam
from featlift.registration.inverse import inverted
from featlift.registration.pairs import Registered, check_pair
from featlift.registration.picture import write_picture
from featlift.registration.plan import Plan
from featlift.registration.settings import PairSettings
from featlift.registration.slices import on_voxels, read_any_mask, read_slice
from featlift.registration.transforms import LinearTransform, simpleitk
from featlift.timing import timed
from featlift.version import __version__
from featlift.volumes import Reading, Scan
from featlift.volumes.discovery.series import source_of
from featlift.volumes.nifti import write_nifti
from featlift.volumes.scan import case_id_of
from featlift.volumes.source import place_and_key
from featlift.volumes.volume import Volume

FIELD, WARPED, RUN = "field.nii.gz", "warped.nii.gz", "run.json"
AFFINE, INVERSE, PICTURE = "affine.tfm", "inverse.nii.gz", "picture.png"


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
    network: str | Path | None = None,
    notify: Callable[[str], object] | None = None,
) -> Registered:
    """Register two scans and write ``field.nii.gz``, ``warped.nii.gz`` and, last, ``run.json``.

    Where matplotlib is installed there is a ``picture.png``. With an affine stage ``affine.tfm`` is what that found,
    and the field is of both.

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
        network: folder of a trained network, which gives the field, and says what it sees; of the settings those of
            Adam count, if it has iterations. None searches.
        notify: see `register`.

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
    check_settings(settings, network)
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        ends = _end_of(fixed, config), _end_of(moving, config)
        bodies = None if masks is None else (read_any_mask(masks[0]), read_any_mask(masks[1]))
        if voxels:
            grid = ends[0].volume.affine
            ends = ends[0].lying_on(grid), ends[1].lying_on(grid)
            bodies = None if bodies is None else (on_voxels(bodies[0], grid), on_voxels(bodies[1], grid))
        check_pair(ends[0].volume, ends[1].volume, settings.affine)
    with timed(seconds, "model") if settings.needs_model or network is not None else nullcontext():
        plan = Plan.of(settings, config, network=network)
    further = {
        "masks": None if masks is None else [_name(mask) for mask in masks],
        "geometry": "voxels" if voxels else "affine",
    }
    return register_pair(
        *ends, folder, plan, seconds, progress, inverse=inverse, masks=bodies, notify=notify, further=further
    )


def check_settings(settings: PairSettings, network: str | Path | None = None) -> None:
    """Tell before work begins of what is not installed, and of what makes no sense.

    Raises:
        OptionError: an affine stage without SimpleITK; a network, and settings that say what it shall see.
    """
    if network is not None and replace(settings, convex_adam=ConvexAdam(), affine="none") != PairSettings():
        raise OptionError(
            "a network says itself what it sees, and where: give it an affine stage and settings of Adam alone"
        )
    if settings.affine != "none":
        simpleitk()


def register_pair(
    fixed: End,
    moving: End,
    folder: Path,
    plan: Plan,
    seconds: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    *,
    inverse: bool = False,
    masks: tuple[Volume, Volume] | None = None,
    notify: Callable[[str], object] | None = None,
    further: Mapping[str, Any] | None = None,
) -> Registered:
    """Register two scans that were read, see `register_files`; without voxels there is no ``warped.nii.gz``.

    Args:
        fixed: the scan that stays.
        moving: the scan that is brought onto it.
        folder: for the files, in the place of older ones. ``run.json`` says that they are whole.
        plan: how.
        seconds: that were spent before.
        progress: told of the iterations.
        inverse: write ``inverse.nii.gz``.
        masks: see `register`.
        notify: see `register`.
        further: what ``run.json`` shall say besides.

    Raises:
        VolumeError, OptionError: see `register`.
        OutputError: the folder cannot be written.
    """
    forget_peak_memory()
    cases = {end.volume: end.case for end in (fixed, moving) if end.case is not None}
    extract = plan.extract or (cases.__getitem__ if cases else None)
    found = plan.registered(fixed.volume, moving.volume, extract, progress, masks, notify)
    writing: dict[str, float] = {}
    with timed(writing, "write"):
        with as_output_error(folder):
            for name in (RUN, WARPED, AFFINE, INVERSE, PICTURE):  # of another registration, from here on
                (folder / name).unlink(missing_ok=True)
        if plan.settings.affine != "none":
            LinearTransform(found.affine).write(folder / AFFINE)
        found.field.write(folder / FIELD)
        if moving.voxels:
            lowest = float(moving.volume.array.min())
            warped = found.field.warp(moving.volume, found.field.shape, found.field.affine, fill_value=lowest)
            write_atomically(folder / WARPED, partial(write_nifti, array=warped, affine=found.field.affine))
            if find_spec("matplotlib") is not None:
                title = f"{moving.id} onto {fixed.id}; yellow: the edge of {fixed.id}; the grid bends as it does"
                write_picture(folder / PICTURE, fixed.volume, moving.volume, warped, found.field, title)
    if inverse:
        with timed(writing, "inverse"):
            depth, height, width = moving.volume.array.shape
            assert moving.volume.affine is not None
            back = inverted(found.field, (depth, height, width), moving.volume.affine, found.affine)
            back.write(folder / INVERSE)
    run = {
        "featlift": __version__,
        "device": str(plan.device),
        "fixed": {"id": fixed.id, "name": fixed.name, **fixed.identity},
        "moving": {"id": moving.id, "name": moving.name, **moving.identity},
        **plan.as_json(),
        **(further or {}),
        "affine": None if plan.settings.affine == "none" else found.affine.tolist(),
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


def _end_of(path: str | Path, config: ExtractConfig) -> End:
    """The scan at a path, as the configuration has it read."""
    frame = config.selection.frame
    if isinstance(frame, str):
        raise OptionError(f"--frame {frame}: a registration is of one frame each, give its number")
    if (flat := read_slice(path)) is not None:
        name = _name(path)
        return End(case_id_of(name), name, flat, identity_of(flat.source or {}))
    source = source_of(path)
    source = replace(source, key=config.selection.key or source.key, frame=frame)
    case_id = case_id_of(source.path.name)
    return ScanCohort({case_id: Scan(case_id, source.path.name, (source,))}, Reading.of(config.reading)).load(case_id)


def _name(path: str | Path) -> str:
    place, _ = place_and_key(path)
    return place.name

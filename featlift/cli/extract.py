"""`featlift extract`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli import arguments, choices
from featlift.cli.arguments import KEEPING, LIFTING, MODEL, VOLUMES
from featlift.cli.confirming import confirm_size
from featlift.cli.interrupts import remembered_interrupts
from featlift.cli.options import frame_of, human_bytes, layers, model_args, numbers, words
from featlift.cli.options import size as size_of
from featlift.counting import number_of

if TYPE_CHECKING:
    from pathlib import Path

    from featlift.extraction import Extraction, Job, OutputSpec, Run
    from featlift.extraction.worker_pool import WorkerPool
    from featlift.remote import Remote
    from featlift.volumes import DiscoveredScans

_RUNNING = "The run"
_LISTED = 10
_WIDEST = 60  # letters of an id in a table


def extract(
    inputs: Annotated[list[str], typer.Argument(help="Scans, or folders that are searched for scans; or their URLs.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The store to write, or its URL.")] = "features.zarr",
    model: arguments.Model = "vitb16",
    weights: Annotated[
        str | None,
        typer.Option(help="Weights file, or random:SEED. Default: the published ones.", rich_help_panel=MODEL),
    ] = None,
    weights_prefix: Annotated[
        str | None, typer.Option(help="Prefix of the network's keys in the file.", rich_help_panel=MODEL)
    ] = None,
    rope_periods: Annotated[
        str, choices.one_of(choices.ROPE_PERIODS, "Of rotary embeddings.", rich_help_panel=MODEL)
    ] = "auto",
    model_arg: arguments.ModelArg = None,
    precision: Annotated[
        str,
        choices.one_of(choices.PRECISIONS, "auto takes an existing store's.", rich_help_panel=MODEL),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=MODEL)] = "auto",
    mode: arguments.Mode = "pcg",
    cycle: Annotated[
        str | None,
        choices.some_of(choices.PLANES, "Planes in turn. Default: HW,DW,DH,HW.", rich_help_panel=LIFTING),
    ] = None,
    token_pooling: Annotated[
        str,
        choices.one_of(
            choices.TOKEN_POOLINGS, "As the released code (depth) or Algorithm 1 (direct).", rich_help_panel=LIFTING
        ),
    ] = "depth",
    layer: arguments.Layers = "-1",
    norm: Annotated[bool, typer.Option(help="Apply the backbone's final norm.", rich_help_panel=LIFTING)] = True,
    depth_window: arguments.DepthWindow = None,
    depth_overlap: Annotated[
        int | None,
        typer.Option(help="Slices that windows share. Default: a quarter.", rich_help_panel=LIFTING),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(help="For the planes at work: auto, or a size such as 2GB.", rich_help_panel=LIFTING),
    ] = "auto",
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep features in host memory.", rich_help_panel=LIFTING)
    ] = False,
    compile_blocks: Annotated[
        bool,
        typer.Option("--compile", help="Compile transformer blocks: for long runs.", rich_help_panel=LIFTING),
    ] = False,
    glob: arguments.Glob = None,
    exclude: arguments.Exclude = None,
    mask_pattern: arguments.MaskPattern = None,
    masks: arguments.Masks = None,
    key: arguments.Key = None,
    frame: arguments.Frame = None,
    channels: arguments.Channels = None,
    allow_irregular: arguments.AllowIrregular = False,
    max_voxels: arguments.MaxVoxels = None,
    limit: arguments.Limit = None,
    intensity: arguments.Intensity = "percentile:0.5,99.5",
    spacing: arguments.Spacing = None,
    size: arguments.Size = None,
    crop: arguments.Crop = None,
    roi: Annotated[
        str | None,
        typer.Option(
            help="A case for each lesion (masks, or their folder) or point (a CSV: id,x,y,z in LPS mm).",
            rich_help_panel=VOLUMES,
        ),
    ] = None,
    roi_mm: Annotated[
        str | None, typer.Option(help="Size of a region: all axes, or D,H,W.", rich_help_panel=VOLUMES)
    ] = None,
    depth_stride: arguments.DepthStride = 1,
    orient: arguments.Orient = "LPS",
    nan_to: arguments.NanTo = None,
    save: arguments.Save = "scan,dense,tokens,slice_mean,embedding",
    save_dtype: arguments.SaveDtype = "float16",
    reduce: arguments.Reduce = None,
    basis: Annotated[
        str | None,
        typer.Option(help="A basis.safetensors of another store for pca. Default: fitted.", rich_help_panel=KEEPING),
    ] = None,
    embedding: Annotated[
        str | None,
        choices.one_of(choices.EMBEDDINGS, "Default: what the backbone has.", rich_help_panel=KEEPING),
    ] = None,
    confirm_above: Annotated[
        str, typer.Option(help="Ask before writing a store larger than this.", rich_help_panel=KEEPING)
    ] = "100GB",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.", rich_help_panel=KEEPING)] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            envvar="FEATLIFT_WORKERS",
            help="Processes that read ahead. Default: by device and cores.",
            rich_help_panel=_RUNNING,
        ),
    ] = None,
    prefetch: Annotated[
        str, typer.Option(help="What waits for lifting: auto, or a size such as 4GB.", rich_help_panel=_RUNNING)
    ] = "auto",
    shard: Annotated[
        str | None,
        typer.Option(
            help="Only part I/N of the scans, 1/N to N/N. Default: by the Slurm array.", rich_help_panel=_RUNNING
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(help="Several at once, as cuda:0,cuda:1: a process for each.", rich_help_panel=_RUNNING),
    ] = None,
    engine: Annotated[
        str, choices.one_of(choices.ENGINES, "Here, or on the cluster of RAY_ADDRESS.", rich_help_panel=_RUNNING)
    ] = "local",
    actors: Annotated[
        int | None, typer.Option(min=1, help="Of ray. Default: one for each GPU.", rich_help_panel=_RUNNING)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Erase the store if its recipe is another.")] = False,
) -> None:
    """Lift scans into a Zarr store of features.

    Scans are NIfTI, Analyze, NRRD, MetaImage, NumPy, HDF5, Zarr, TIFF, MedMNIST, DICOM (folder or .zip), or rows of a
    manifest (a CSV with id,path). What is complete already is skipped; a run can be stopped and started again.
    """
    from featlift.errors import OptionError
    from featlift.volumes import Preparation, Reading, Selection, find_scans
    from featlift.volumes.intensity import Intensity

    # torch's threads would wait for each other by spinning, on cores that reading and writing need
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if bool(roi) != bool(roi_mm):
        raise OptionError("--roi and --roi-mm belong together: where the regions are, and how large")
    preparation = Preparation(
        orient=orient,  # type: ignore[arg-type]
        intensity=Intensity(intensity),
        spacing=numbers(spacing, float, "--spacing"),
        size=numbers(size, int, "--size"),
        nan_to=nan_to,
        crop=crop,
        roi_mm=numbers(roi_mm, float, "--roi-mm"),
        depth_stride=depth_stride,
    )
    selection = Selection(
        glob=glob or (),
        exclude=exclude or (),
        key=key,
        frame=frame_of(frame),
        channels=words(channels),
        mask_pattern=mask_pattern,
        masks=masks,
        roi=roi,
    )
    found = find_scans(inputs, selection, limit, refused=[])
    _tell_of(found)
    reading = Reading(**({"max_voxels": max_voxels} if max_voxels else {}), allow_irregular=allow_irregular)
    network = {
        "model": model,
        "weights": weights,
        "device": device,
        "precision": precision,
        "loading": {"weights_prefix": weights_prefix, "rope_periods": rope_periods, **model_args(model_arg or ())},
        "mode": mode,
        "cycle": cycle,
        "token_pooling": token_pooling,
        "layers": layers(layer),
        "norm": norm,
        "depth_window": depth_window,
        "depth_overlap": depth_overlap,
        "memory": memory,
        "offload": offload,
        "compile": compile_blocks,
    }
    if (weights or "").startswith("random:"):
        typer.echo("featlift: random weights: these features mean nothing", err=True)
    try:
        with remembered_interrupts() as check_interrupt:
            from featlift.extraction import Job, Shard
            from featlift.extraction.engines import worker_pool_of
            from featlift.remote import parse_location
            from featlift.store.backends import backend_of

            backend_of(output).check_writable()
            above = sys.maxsize if yes else size_of(confirm_above, "--confirm-above")
            keeping = _keeping(save, save_dtype, reduce, basis, embedding)
            ahead = None if prefetch == "auto" else size_of(prefetch, "--prefetch")
            part = Shard.parse(shard) if shard else Shard.of_slurm(os.environ)
            job = Job(parse_location(output), found, network, preparation, reading, keeping, workers, ahead, part)
            job, pool = worker_pool_of(job, engine, words(devices), actors)
            _extract(job, pool, overwrite, above, by_slurm=not shard, check_interrupt=check_interrupt)
    except KeyboardInterrupt:
        typer.echo("featlift: stopped; the same command goes on where this one was", err=True)
        raise


def _tell_of(found: DiscoveredScans) -> None:
    """Say what is no scan, and what might be a mistake."""
    for each in found.skipped[:_LISTED]:
        typer.echo(f"skipped  {each.name}: {each.reason}", err=True)
    if len(found.skipped) > _LISTED:
        typer.echo(f"skipped  {len(found.skipped) - _LISTED} more, all in the run record", err=True)
    for notice in found.notices:
        typer.echo(f"featlift: {notice}", err=True)


def _keeping(save: str, dtype: str, reduce: str | None, basis: str | None, embedding: str | None) -> OutputSpec:
    from featlift.extraction import OutputSpec, Reduction
    from featlift.remote import parse_location
    from featlift.store.basis import Basis

    reduction = Reduction.of(reduce, None if basis is None else Basis.read(parse_location(basis)))
    return OutputSpec(words(save), dtype, embedding, reduction)  # type: ignore[arg-type]


def _extract(
    job: Job,
    pool: WorkerPool | None,
    overwrite: bool,
    confirm_above: int,
    by_slurm: bool,
    check_interrupt: Callable[[], None],
) -> None:
    from tqdm import tqdm

    from featlift.extraction.beginning import as_begun
    from featlift.extraction.fitting import needs_fitting, with_fitted_basis
    from featlift.store.erasing import erase_other

    extraction = as_begun(job.output, job.extraction())
    _confirm(job.output, extraction, job.found, overwrite, confirm_above)
    if overwrite and (erased := erase_other(job.output, extraction.recipe)):
        typer.echo(
            f"{job.output}: erased {number_of(erased.volumes, 'volume')} ({human_bytes(erased.bytes)}), "
            f"another recipe: {'; '.join(erased.differences)}",
            err=True,
        )
    if needs_fitting(job.output, extraction):
        typer.echo("featlift: fitting the basis on a sample of the scans", err=True)
    extraction = with_fitted_basis(job.output, extraction, job.found.scans)
    with job.run(extraction) as run:
        if job.shard and job.shard.of > 1:
            mine, everything = len(run.scans), len(run.found.scans)
            typer.echo(
                f"featlift: shard {job.shard.number} of {job.shard.of}: {mine:,} of {everything:,} scans, "
                f"{everything - mine:,} left to the other shards"
                f"{' (by the Slurm array, --shard 1/1 takes all)' if by_slurm else ''}",
                err=True,
            )
        if run.replaced:
            typer.echo(
                f"featlift: {len(run.replaced)} in the store are made again, their source is another or they are "
                f"damaged: {', '.join(run.replaced[:5])}{' ...' if len(run.replaced) > 5 else ''}",
                err=True,
            )
        with tqdm(total=len(run.todo) + len(run.refused), unit="volume", disable=None) as bar:
            for outcome in run.extract(pool):
                bar.update()
                check_interrupt()
                bar.set_description(outcome.id)
                if outcome.status == "failed" and not bar.disable:
                    bar.write(f"failed  {outcome.id}: {outcome.reason}")
    _report(run)


def _confirm(
    output: Path | Remote, extraction: Extraction, found: DiscoveredScans, overwrite: bool, above: int
) -> None:
    """Say how much is about to be written, unless the store is of another recipe and the run will refuse it."""
    from featlift.extraction.forecast import FeatureSizes, forecast
    from featlift.store.layout import differing_fields
    from featlift.store.reading import check_store, complete_cases, is_empty

    differs = not is_empty(output) and bool(differing_fields(check_store(output)["recipe"], extraction.recipe))
    if differs and not overwrite:
        return
    held = set() if differs else set(complete_cases(output))
    left = [scan for scan in found.scans if scan.id not in held]
    sizes = FeatureSizes.of(extraction.lifted)
    confirm_size(forecast(left, extraction.preparation, sizes, extraction.keeping, extraction.reading), above)


def _report(run: Run) -> None:
    if not run.todo and not run.refused:
        typer.echo(f"{run.output}: {number_of(run.count('skipped'), 'volume')} complete, nothing to do")
        return
    skipped = [f"{run.count('skipped')} complete before"] if run.count("skipped") else []
    elsewhere = [f"{len(run.claimed_by_others)} in the hands of another job"] if run.claimed_by_others else []
    parts = [f"{run.count('done')} extracted", *skipped, *elsewhere, f"{run.count('failed')} failed"]
    typer.echo(f"{run.output}: {', '.join(parts)} in {run.seconds:.1f} s")
    if run.bottleneck:
        typer.echo(run.bottleneck)
    if run.claimed_by_others:
        named = ", ".join(run.claimed_by_others[:_LISTED])
        more = "" if len(run.claimed_by_others) <= _LISTED else f" and {len(run.claimed_by_others) - _LISTED} more"
        typer.echo(f"left to other jobs: {named}{more}; the same command tells if they came")
    failed = [outcome for outcome in run.outcomes if outcome.status == "failed"]
    if failed:
        width = min(max(len(outcome.id) for outcome in failed), _WIDEST)
        typer.echo(f"\n{'case':<{width}}  reason", err=True)
        for outcome in failed:
            typer.echo(f"{outcome.id:<{width}}  {outcome.reason}", err=True)
        raise typer.Exit(1)

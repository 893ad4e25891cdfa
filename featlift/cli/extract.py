"""`featlift extract`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from featlift.cli.interrupts import remembered_interrupts
from featlift.cli.options import human_bytes, layers, model_args, numbers
from featlift.errors import OutputError

_MODEL = "Backbone"
_LIFTING = "Lifting"
_VOLUMES = "Volumes"


def extract(
    inputs: Annotated[list[Path], typer.Argument(help="Scans, or folders that are searched for scans.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to write.")] = Path("features.zarr"),
    model: Annotated[
        str, typer.Option(help="A name of `featlift models`, or a timm name.", rich_help_panel=_MODEL)
    ] = "vitb16",
    weights: Annotated[
        str | None,
        typer.Option(help="Weights file, or random:SEED. Default: the published ones.", rich_help_panel=_MODEL),
    ] = None,
    weights_prefix: Annotated[
        str | None, typer.Option(help="Prefix of the network's keys in the file.", rich_help_panel=_MODEL)
    ] = None,
    rope_periods: Annotated[str, typer.Option(help="auto, file, fp32 or bf16.", rich_help_panel=_MODEL)] = "auto",
    model_arg: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for timm, repeatable.", rich_help_panel=_MODEL)
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16 or fp16. auto takes an existing store's.", rich_help_panel=_MODEL)
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=_MODEL)] = "auto",
    mode: Annotated[str, typer.Option(help="pcg, pcm, 2d or 3d.", rich_help_panel=_LIFTING)] = "pcg",
    cycle: Annotated[
        str | None, typer.Option(help="Planes in turn. Default: HW,DW,DH,HW.", rich_help_panel=_LIFTING)
    ] = None,
    token_pooling: Annotated[
        str, typer.Option(help="depth (the released code) or direct (Algorithm 1).", rich_help_panel=_LIFTING)
    ] = "depth",
    layer: Annotated[
        str, typer.Option("--layers", help="Layers, as in 3,6,-1 or stride16.", rich_help_panel=_LIFTING)
    ] = "-1",
    norm: Annotated[bool, typer.Option(help="Apply the backbone's final norm.", rich_help_panel=_LIFTING)] = True,
    depth_window: Annotated[
        int | None, typer.Option(help="Run the depth in windows of N slices, blended.", rich_help_panel=_LIFTING)
    ] = None,
    depth_overlap: Annotated[
        int | None, typer.Option(help="Slices that windows share. Default: a quarter.", rich_help_panel=_LIFTING)
    ] = None,
    memory: Annotated[
        str, typer.Option(help="For the planes at work: auto, or a size such as 2GB.", rich_help_panel=_LIFTING)
    ] = "auto",
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep features in host memory.", rich_help_panel=_LIFTING)
    ] = False,
    compile_blocks: Annotated[
        bool, typer.Option("--compile", help="Compile transformer blocks: for long runs.", rich_help_panel=_LIFTING)
    ] = False,
    intensity: Annotated[
        str,
        typer.Option(
            help="percentile:LO,HI, minmax, none, window:LO,HI, ct:LO,HI, ct:lung, ct:lung+soft+bone.",
            rich_help_panel=_VOLUMES,
        ),
    ] = "percentile:0.5,99.5",
    spacing: Annotated[
        str | None, typer.Option(help="Millimetres: all axes, or D,H,W (0 keeps).", rich_help_panel=_VOLUMES)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Voxels: longer side in plane, H,W or D,H,W (0 keeps).", rich_help_panel=_VOLUMES)
    ] = None,
    orient: Annotated[str, typer.Option(help="LPS or native.", rich_help_panel=_VOLUMES)] = "LPS",
    nan_to: Annotated[
        float | None, typer.Option(help="Replace NaN and infinities by this value.", rich_help_panel=_VOLUMES)
    ] = None,
    glob: Annotated[
        str | None, typer.Option(help="Only paths that match, as in '*_T1.nii.gz'.", rich_help_panel=_VOLUMES)
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out paths that match, repeatable.", rich_help_panel=_VOLUMES)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N scans.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Erase the store if its recipe is another.")] = False,
) -> None:
    """Lift scans into a Zarr store of features.

    What is complete already is skipped; a run can be stopped and started again at any time.
    """
    from featlift.volumes import Preparation, find_scans
    from featlift.volumes.intensity import Intensity

    scans = find_scans(inputs, glob, exclude or ())[:limit]
    preparation = Preparation(
        orient,  # type: ignore[arg-type]
        Intensity(intensity),
        numbers(spacing, float, "--spacing"),
        numbers(size, int, "--size"),
        nan_to,
    )
    _check_writable(output)
    lifted = _lifted(
        output=output,
        name=model,
        load={
            "weights": weights,
            "weights_prefix": weights_prefix,
            "rope_periods": rope_periods,
            **model_args(model_arg or ()),
        },
        lift={
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
        },
        device=device,
        precision=precision,
    )
    try:
        with remembered_interrupts() as check_interrupt:
            _run(scans, lifted, preparation, output, overwrite, check_interrupt)
    except KeyboardInterrupt:
        typer.echo("featlift: stopped; the same command goes on where this one was", err=True)
        raise


def _lifted(
    *,
    output: Path,
    name: str,
    load: dict[str, Any],
    lift: dict[str, Any],
    device: str,
    precision: str,
) -> Any:
    """Load the backbone and lift it; ``--precision auto`` follows a store that exists."""
    from featlift import lifting
    from featlift.backbones.loading import load_backbone
    from featlift.backbones.precision import place, resolve_device, resolve_precision
    from featlift.store.reading import check_store, is_vacant

    if not is_vacant(output):
        recipe = check_store(output)["recipe"]
        precision = recipe.get("precision", "auto") if precision == "auto" else precision
    place_on = resolve_device(device)
    if (load["weights"] or "").startswith("random:"):
        typer.echo("featlift: random weights: these features mean nothing", err=True)
    backbone = load_backbone(name, **load)
    return lifting.lift(place(backbone, place_on, resolve_precision(precision, place_on, backbone.family)), **lift)


def _run(
    scans: list[Any],
    lifted: Any,
    preparation: Any,
    output: Path,
    overwrite: bool,
    check_interrupt: Callable[[], None],
) -> None:
    import time
    import uuid
    from datetime import UTC, datetime

    from tqdm import tqdm

    from featlift.extraction import Extraction, make_recipe, run_record
    from featlift.store import StoreWriter, index_is_current, rebuild_index
    from featlift.store.reading import is_vacant

    recipe = make_recipe(lifted, preparation)
    if overwrite:
        _erase_other(output, recipe)
    is_new = is_vacant(output)
    writer = StoreWriter(output, recipe)
    extraction = Extraction(lifted, preparation, writer)
    todo = extraction.todo(scans)
    skipped = len(scans) - len(todo)
    if replaced := extraction.replaced(todo):
        typer.echo(
            f"featlift: {len(replaced)} in the store are made again, their source is another or they are damaged: "
            f"{', '.join(replaced[:5])}{' ...' if len(replaced) > 5 else ''}",
            err=True,
        )
    if not todo:
        if not index_is_current(output):
            rebuild_index(output)
        typer.echo(f"{output}: all {len(scans)} volumes are complete, nothing to do")
        return
    started, clock = datetime.now(UTC), time.perf_counter()
    outcomes = []
    bar = tqdm(total=len(todo), unit="volume", disable=None, desc=todo[0].id)
    try:
        for outcome in extraction.run(todo):
            outcomes.append(outcome)
            bar.update()
            check_interrupt()
            bar.set_description(todo[len(outcomes)].id if len(outcomes) < len(todo) else "done")
            if outcome.status == "failed" and not bar.disable:
                bar.write(f"failed  {outcome.id}: {outcome.reason}")
    finally:
        bar.close()
        done = sum(outcome.status == "done" for outcome in outcomes)
        if is_new and not done:
            writer.remove_if_empty()
        elif outcomes:
            seconds = time.perf_counter() - clock
            device = lifted.backbone.device
            record = run_record(
                writer.recipe_sha256, lifted.backbone.weights, device, started.isoformat(), seconds, skipped, outcomes
            )
            writer.record_run(f"{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}", record)
            rebuild_index(output)
    _report(output, outcomes, skipped, time.perf_counter() - clock)


def _report(output: Path, outcomes: list[Any], skipped: int, seconds: float) -> None:
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    done = sum(outcome.status == "done" for outcome in outcomes)
    skipped += len(outcomes) - len(failed) - done
    parts = [f"{done} extracted", *([f"{skipped} complete before"] if skipped else []), f"{len(failed)} failed"]
    typer.echo(f"{output}: {', '.join(parts)} in {seconds:.1f} s")
    if failed:
        width = max(len(outcome.id) for outcome in failed)
        typer.echo(f"\n{'case':<{width}}  reason", err=True)
        for outcome in failed:
            typer.echo(f"{outcome.id:<{width}}  {outcome.reason}", err=True)
        raise typer.Exit(1)


def _erase_other(output: Path, recipe: dict[str, Any]) -> None:
    """Erase a store of another recipe, saying what goes."""
    import shutil

    from featlift.store import open_store
    from featlift.store.durable import as_output_error, staging_name
    from featlift.store.layout import differing_fields
    from featlift.store.reading import is_vacant

    if is_vacant(output):
        return
    store = open_store(output)
    differences = differing_fields(store.recipe, recipe)
    if not differences:
        return
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    typer.echo(
        f"{output}: erasing {len(store)} volumes ({human_bytes(size)}), another recipe: {'; '.join(differences)}",
        err=True,
    )
    with as_output_error(output):
        aside = output.with_name(staging_name(f".{output.name}"))
        output.rename(aside)  # at once, so that a stop leaves no half of a store
        shutil.rmtree(aside)


def _check_writable(output: Path) -> None:
    """Fail before a model is loaded rather than after."""
    import tempfile

    place = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".featlift-"):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}; give another place with -o") from error

"""`featlift extract`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlift.cli.interrupts import remembered_interrupts
from featlift.cli.options import frame_of, human_bytes, layers, model_args, numbers, words

if TYPE_CHECKING:
    from pathlib import Path

    from featlift.extraction import Extraction, Run
    from featlift.remote import Remote
    from featlift.volumes import Found

_MODEL = "Backbone"
_LIFTING = "Lifting"
_INPUTS = "Which scans"
_VOLUMES = "What of them"
_LISTED = 10


def extract(
    inputs: Annotated[list[str], typer.Argument(help="Scans, or folders that are searched for scans; or their URLs.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The store to write, or its URL.")] = "features.zarr",
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
    glob: Annotated[
        list[str] | None,
        typer.Option(help="Only paths that match, as '*_T1.nii.gz'; repeatable.", rich_help_panel=_INPUTS),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out paths that match; repeatable.", rich_help_panel=_INPUTS)
    ] = None,
    mask_pattern: Annotated[
        str | None,
        typer.Option(
            help="Files that are masks, as '*_label.nrrd': * names the scan.",
            rich_help_panel=_INPUTS,
        ),
    ] = None,
    masks: Annotated[
        str | None, typer.Option(help="A folder of masks, named as the scans; or one file.", rich_help_panel=_INPUTS)
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The array to read in HDF5, .npz and Zarr.", rich_help_panel=_INPUTS)
    ] = None,
    frame: Annotated[
        str | None, typer.Option(help="Of images with several: a number from 0, or all.", rich_help_panel=_INPUTS)
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(help="Three frames, or columns of a manifest, as one volume's channels.", rich_help_panel=_INPUTS),
    ] = None,
    allow_irregular: Annotated[
        bool, typer.Option("--allow-irregular", help="Resample DICOM with gaps or tilt.", rich_help_panel=_INPUTS)
    ] = False,
    max_voxels: Annotated[
        int | None, typer.Option(min=1, help="Refuse larger images unread.", rich_help_panel=_INPUTS)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N scans.", rich_help_panel=_INPUTS)] = None,
    intensity: Annotated[
        str,
        typer.Option(
            help="percentile:LO,HI, minmax, none, window:LO,HI, ct:LO,HI, ct:lung, ct:lung+soft+bone; "
            "three with ; between for three channels.",
            rich_help_panel=_VOLUMES,
        ),
    ] = "percentile:0.5,99.5",
    spacing: Annotated[
        str | None, typer.Option(help="Millimetres: all axes, or D,H,W (0 keeps).", rich_help_panel=_VOLUMES)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Voxels: longer side in plane, H,W or D,H,W (0 keeps).", rich_help_panel=_VOLUMES)
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="body, or body:MM with the margin to leave.", rich_help_panel=_VOLUMES)
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            help="A case for each lesion (masks, or their folder) or point (a CSV: id,x,y,z in LPS mm).",
            rich_help_panel=_VOLUMES,
        ),
    ] = None,
    roi_mm: Annotated[
        str | None, typer.Option(help="Size of a region: all axes, or D,H,W.", rich_help_panel=_VOLUMES)
    ] = None,
    depth_stride: Annotated[int, typer.Option(min=1, help="Only every N-th slice.", rich_help_panel=_VOLUMES)] = 1,
    orient: Annotated[str, typer.Option(help="LPS or native.", rich_help_panel=_VOLUMES)] = "LPS",
    nan_to: Annotated[
        float | None, typer.Option(help="Replace NaN and infinities by this value.", rich_help_panel=_VOLUMES)
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
    found = find_scans(inputs, selection, limit)
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
    try:
        with remembered_interrupts() as check_interrupt:
            from featlift.extraction import Extraction
            from featlift.remote import located
            from featlift.store.place import place_of

            place_of(output).check_writable()
            extraction = Extraction(_lifted(output, network), preparation, reading)
            _extract(located(output), extraction, found, overwrite, check_interrupt)
    except KeyboardInterrupt:
        typer.echo("featlift: stopped; the same command goes on where this one was", err=True)
        raise


def _tell_of(found: Found) -> None:
    """Say what is no scan, and what might be a mistake."""
    for each in found.skipped[:_LISTED]:
        typer.echo(f"skipped  {each.name}: {each.reason}", err=True)
    if len(found.skipped) > _LISTED:
        typer.echo(f"skipped  {len(found.skipped) - _LISTED} more, all in the run record", err=True)
    for notice in found.notices:
        typer.echo(f"featlift: {notice}", err=True)


def _lifted(output: str, network: dict[str, Any]) -> Any:
    """Load the backbone and lift it; ``--precision auto`` follows a store that exists."""
    from featlift.extraction import lifted_backbone
    from featlift.store.reading import check_store, is_vacant

    if network["precision"] == "auto" and not is_vacant(output):
        network = {**network, "precision": check_store(output)["recipe"].get("precision", "auto")}
    if (network["weights"] or "").startswith("random:"):
        typer.echo("featlift: random weights: these features mean nothing", err=True)
    return lifted_backbone(**network)


def _extract(
    output: Path | Remote, extraction: Extraction, found: Found, overwrite: bool, check_interrupt: Callable[[], None]
) -> None:
    from tqdm import tqdm

    from featlift.extraction import Run, make_recipe
    from featlift.store.erasing import erase_other

    if overwrite and (erased := erase_other(output, make_recipe(extraction.lifted, extraction.preparation))):
        typer.echo(
            f"{output}: erased {erased.volumes} volumes ({human_bytes(erased.bytes)}), another recipe: "
            f"{'; '.join(erased.differences)}",
            err=True,
        )
    with Run(output, extraction, found) as run:
        if run.replaced:
            typer.echo(
                f"featlift: {len(run.replaced)} in the store are made again, their source is another or they are "
                f"damaged: {', '.join(run.replaced[:5])}{' ...' if len(run.replaced) > 5 else ''}",
                err=True,
            )
        names = iter([*(scan.id for scan in run.todo[1:]), "done"])
        with tqdm(total=len(run.todo), unit="volume", disable=None, desc=run.todo[0].id if run.todo else None) as bar:
            for outcome in run.extract():
                bar.update()
                check_interrupt()
                bar.set_description(next(names))
                if outcome.status == "failed" and not bar.disable:
                    bar.write(f"failed  {outcome.id}: {outcome.reason}")
    _report(run)


def _report(run: Run) -> None:
    if not run.todo:
        typer.echo(f"{run.output}: all {run.count('skipped')} volumes are complete, nothing to do")
        return
    skipped = [f"{run.count('skipped')} complete before"] if run.count("skipped") else []
    parts = [f"{run.count('done')} extracted", *skipped, f"{run.count('failed')} failed"]
    typer.echo(f"{run.output}: {', '.join(parts)} in {run.seconds:.1f} s")
    failed = [outcome for outcome in run.outcomes if outcome.status == "failed"]
    if failed:
        width = max(len(outcome.id) for outcome in failed)
        typer.echo(f"\n{'case':<{width}}  reason", err=True)
        for outcome in failed:
            typer.echo(f"{outcome.id:<{width}}  {outcome.reason}", err=True)
        raise typer.Exit(1)

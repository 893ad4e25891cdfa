"""`featlift pretrain`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlift.cli import choices
from featlift.cli.configured import configured
from featlift.cli.curves import epochs_bar
from featlift.cli.options import numbers
from featlift.config import ExtractConfig

if TYPE_CHECKING:
    from featlift.pretraining.folder import PretrainConfig

pretrain = typer.Typer(
    name="pretrain",
    help="Train an encoder of volumes on scans without labels; measure what it gives back.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_NETWORK, _SEEN, _HOW = "The encoder", "What it is shown", "How it is trained"
_NOT_HERE = (
    "size", "masks", "mask_pattern", "limit", "channels", "roi", "roi_mm", "orientations", "cell", "step", "fuse",
    "save", "save_dtype", "reduce", "basis", "embedding", "overwrite", "yes", "prefetch", "shard", "devices", "engine",
    "actors", "confirm_above", "precision", "offload", "compile",
)  # fmt: skip
Precision = Annotated[str, choices.one_of(choices.HEAD_PRECISIONS, "Of products; weights stay in float32.")]


def _option(text: str, panel: str, *names: str, **how: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **how)


@pretrain.command("3dme")
@configured(leave_out=_NOT_HERE)
def train(
    inputs: Annotated[list[str], typer.Argument(help="Scans, folders, manifests: what extract would be given.")],
    config: ExtractConfig,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the encoder.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="A CSV with id,split and perhaps patient. Default: what scans say; a fifth validates."),
    ] = None,
    encoder: Annotated[
        str, choices.one_of(choices.ENCODERS, "The paper's, or one for 64³ voxels.", rich_help_panel=_NETWORK)
    ] = "base",
    encoder_arg: Annotated[
        list[str] | None, _option("KEY=VALUE of the encoder, repeatable, as in points=8.", _NETWORK)
    ] = None,
    side: Annotated[
        int | None, _option("Of the cubes that it is shown, in voxels. Default: 128; tiny 64.", _SEEN, min=1)
    ] = None,
    stages: Annotated[
        str, _option("CUBE:RATIO of each, or CUBE:RATIO:LENGTH; the last one validates.", _SEEN)
    ] = "4:0.3,8:0.45,12:0.6,16:0.75",
    background: Annotated[float, _option("Part of a crop that may be background.", _SEEN)] = 0.9,
    dark: Annotated[float, _option("Part of a scan's range up to which voxels are background.", _SEEN)] = 0.05,
    losses: Annotated[
        str, _option("Weights of reconstruction, semantics (by --model) and edges; 0 for none.", _HOW)
    ] = "0.7,0.2,0.1",
    edges: Annotated[
        str,
        choices.one_of(
            choices.EDGES, "Denominator of their Dice; sums as the paper writes, no distance.", rich_help_panel=_HOW
        ),
    ] = "squares",
    iterations: Annotated[int, _option("Steps of training.", _HOW, min=1)] = 20_000,
    every: Annotated[int, _option("Iterations between validations.", _HOW, min=1)] = 250,
    batch: Annotated[int, _option("Crops of a step.", _HOW, min=1)] = 16,
    at_once: Annotated[int | None, _option("Of these, in memory together. Default: all.", _HOW, min=1)] = None,
    rate: Annotated[float, _option("Highest learning rate.", _HOW)] = 2e-4,
    decay: Annotated[float, _option("Weight decay.", _HOW)] = 0.05,
    warm_up: Annotated[int, _option("Iterations in which the rate rises.", _HOW, min=0)] = 500,
    clip: Annotated[float, _option("Of the norm of gradients; 0 for none.", _HOW)] = 1.0,
    checkpointing: Annotated[bool, _option("Less memory, a third more time.", _HOW)] = True,
    seed: Annotated[int, _option("Of weights, order, crops and masks.", _HOW, min=0)] = 0,
    precision: Precision = "fp32",
) -> None:
    """Pretrain 3DME: cubes of a scan are blotted out, more from stage to stage, and given back from the rest.

    --model and the options of lifting are the network of the semantic loss; --losses 0.7,0,0.1 does without. Voxels are
    brought to 1 mm unless --spacing says otherwise. A second run of the same command goes on where an interrupted one
    was. Then: `featlift extract --mode native --model 3dme:FOLDER`. Several GPUs: begin the command with
    `torchrun --nproc-per-node N -m featlift.cli.main` instead of `featlift`.
    """
    from featlift.backbones.precision import resolve_device
    from featlift.cli.results import bars
    from featlift.config.options import MODEL_ARGS
    from featlift.extraction.network import encoder_of
    from featlift.pretraining.plan import PretrainPlan
    from featlift.pretraining.training import Cohort, pretrain, split_of_scans
    from featlift.training.ranks import joined
    from featlift.volumes import Preparation, Reading, Selection, find_scans

    plan = PretrainPlan(
        encoder=encoder,  # type: ignore[arg-type]
        options=MODEL_ARGS.read(encoder_arg or [], "--encoder-arg"),
        side=side,
        stages=stages,
        losses=numbers(losses, float, "--losses"),
        edges=edges,  # type: ignore[arg-type]
        background=background,
        dark=dark,
        iterations=iterations,
        every=every,
        batch=batch,
        at_once=at_once,
        rate=rate,
        decay=decay,
        warm_up=warm_up,
        clip=clip,
        checkpointing=checkpointing,
        seed=seed,
    )
    spacing = config.preparation.spacing or (1.0,)
    config = config.with_values({"precision": "fp32", "spacing": spacing if any(spacing) else ()})
    config.check()
    found = find_scans(inputs, Selection.of(config.selection), None, []).scans
    cohort = Cohort(
        {scan.id: scan for scan in found},
        split_of_scans(found, labels, seed),
        Preparation.of(config.preparation),
        Reading.of(config.reading),
    )
    device = resolve_device(config.network.device)
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        config = config.with_values({"device": f"cuda:{os.environ['LOCAL_RANK']}"})
        device = resolve_device(config.network.device)
    with joined(device) as ranks:
        made = pretrain(
            cohort,
            plan,
            output,
            meaning=encoder_of(config.network, config.lifting) if plan.losses[1] else None,
            device=device,
            precision=precision,  # type: ignore[arg-type]
            workers=config.running.workers or 0,
            ranks=ranks,
            progress=bars("pretrain") if ranks.first else None,
            told=epochs_bar("pretrain", "val_loss") if ranks.first else None,
        )
        if ranks.first:
            typer.echo(f"{output}: {_summary(made)}")


@pretrain.command()
def score(
    inputs: Annotated[list[str], typer.Argument(help="Scans, folders, manifests.")],
    model_dir: Annotated[Path, typer.Option(help="Folder of `featlift pretrain 3dme`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    labels: Annotated[Path | None, typer.Option(help="A CSV with id,split.")] = None,
    split: Annotated[str | None, choices.one_of(choices.SPLITS, "Only scans of this split.")] = None,
    mask: Annotated[str | None, typer.Option(help="CUBE:RATIO. Default: the last stage of the training.")] = None,
    seed: Annotated[int, typer.Option(help="Of crops and masks.", min=0)] = 0,
    glob: Annotated[list[str] | None, typer.Option(help="Only paths that match, as '*_T1.nii.gz'; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Precision = "fp32",
) -> None:
    """Mask a crop of each scan, give it back, and measure the masked voxels: MAE, PSNR, SSIM.

    Scans of the training are left out. Beside it stands what the mean of the visible voxels would be worth.
    """
    from featlift.backbones.precision import resolve_device
    from featlift.cli.results import bars, intervals, written
    from featlift.config import SelectionConfig
    from featlift.errors import OptionError
    from featlift.evaluation import table
    from featlift.evaluation.classification.labels import rows_of_csv
    from featlift.pretraining.scoring import score_pretrained
    from featlift.volumes import Selection, find_scans

    scans = find_scans(inputs, Selection.of(SelectionConfig(glob=tuple(glob or ()))), None, []).scans
    if split is not None:
        rows = {} if labels is None else rows_of_csv(labels, {scan.id for scan in scans})
        said = {scan.id: rows.get(scan.id, {}).get("split") or scan.labels.get("split") for scan in scans}
        scans = [scan for scan in scans if said[scan.id] == split]
        if not scans:
            raise OptionError(f"--split {split}: no scan is in it; --labels says which are")
    results = score_pretrained(
        model_dir,
        scans,
        masking=mask,
        seed=seed,
        device=resolve_device(device),
        precision=precision,  # type: ignore[arg-type]
        progress=bars("pretrain"),
    )
    written(results, output)
    typer.echo(f"Masked voxels of {len(results[0].cases)} scans; {intervals(results)}")
    typer.echo(table(results))


def _summary(made: PretrainConfig) -> str:
    counts, training, side = made.parameters, made.training, made.encoder["size"]
    scans = len(made.train) + len(made.val)
    grown = f"; {made.grown} of {scans} scans were grown to hold a crop" if made.grown else ""
    return (
        f"{counts['encoder']:,} parameters and {counts['decoder']:,} of the decoder on crops of {side}³; "
        f"best validation loss {training['val_loss']:.4f} in round {training['best_epoch']:.0f} of "
        f"{training['epochs']}, {training['seconds']:.0f} s{grown}"
    )

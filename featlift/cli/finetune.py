"""`featlift finetune`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlift.cli import choices
from featlift.cli.configured import configured
from featlift.cli.curves import epochs_bar
from featlift.cli.options import LabelNames, numbers, words
from featlift.config import ExtractConfig
from featlift.errors import OptionError

if TYPE_CHECKING:
    from featlift.finetuning.folder import Config

finetune = typer.Typer(
    name="finetune",
    help="Train a network on scans with labels or masks: all of it, by LoRA, or its head; then predict.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_HOW, _LORA, _HEAD = "How it is trained", "LoRA", "The head"
_NOT_HERE = (
    "orientations", "cell", "step", "fuse", "save", "save_dtype", "reduce", "basis", "embedding", "overwrite", "yes",
    "prefetch", "shard", "devices", "engine", "actors", "confirm_above", "precision", "offload", "compile", "limit",
    "adapter", "magnify",
)  # fmt: skip
Labels = Annotated[
    Path | None, typer.Option(help="A CSV with id,split and perhaps patient and labels. Default: what the scans say.")
]
Precision = Annotated[str, choices.one_of(choices.HEAD_PRECISIONS, "Of products; weights stay in float32.")]


def _option(text: str, panel: str, **how: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, **how)


@finetune.command()
@configured(leave_out=_NOT_HERE)
def train(
    inputs: Annotated[list[str], typer.Argument(help="Scans, folders, manifests: what extract would be given.")],
    config: ExtractConfig,
    task: Annotated[str, choices.one_of(choices.FINETUNE_TASKS, "Labels of volumes, or masks (--masks).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model.")],
    adapt: Annotated[
        str, choices.one_of(choices.ADAPTS, "What of the network is trained; the head always is.")
    ] = "full",
    labels: Labels = None,
    label: Annotated[str | None, typer.Option(help="Columns to predict. Default: label, or all of them.")] = None,
    label_names: LabelNames = None,
    epochs: Annotated[int | None, _option("Of classify. Default: 100; head 200.", _HOW, min=1)] = None,
    iterations: Annotated[int | None, _option("Of segment. Default: 20,000; full 30,000.", _HOW, min=1)] = None,
    every: Annotated[int, _option("Of segment: iterations between validations.", _HOW, min=1)] = 250,
    batch: Annotated[int | None, _option("Scans of a step. Default: 32; segment 8.", _HOW, min=1)] = None,
    at_once: Annotated[int | None, _option("Of these, in memory together. Default: all.", _HOW, min=1)] = None,
    rate: Annotated[float | None, _option("Highest learning rate, of the head.", _HOW)] = None,
    backbone_rate: Annotated[float | None, _option("Part of it that the backbone, or LoRA, has.", _HOW)] = None,
    layer_decay: Annotated[float, _option("Part of a block's rate that the block before has.", _HOW)] = 1.0,
    decay: Annotated[float | None, _option("Weight decay.", _HOW)] = None,
    warm_up: Annotated[int | None, _option("Epochs, or iterations, in which the rate rises.", _HOW, min=0)] = None,
    clip: Annotated[float | None, _option("Of the norm of gradients; 0 for none.", _HOW)] = None,
    patience: Annotated[int | None, _option("Validations to wait for a better one. Default: all.", _HOW, min=1)] = None,
    augment: Annotated[bool, _option("Change training scans at random.", _HOW)] = True,
    rope_rescale: Annotated[float | None, _option("As the released hub models: 2. Default: none.", _HOW)] = None,
    checkpointing: Annotated[bool, _option("Less memory, a third more time.", _HOW)] = True,
    seed: Annotated[int, _option("Of weights, order and changes.", _HOW, min=0)] = 0,
    rank: Annotated[int, _option("Of the matrices.", _LORA, min=1)] = 8,
    alpha: Annotated[float | None, _option("They count alpha / rank. Default: twice the rank.", _LORA)] = None,
    lora_dropout: Annotated[float, _option("Of what they are given.", _LORA)] = 0.0,
    lora_targets: Annotated[str, _option("Layers of each block, as timm calls them.", _LORA)] = "attn.qkv,attn.proj",
    lora_slices: Annotated[str | None, _option("Of a fused qkv, as in q,v. Default: all as one.", _LORA)] = None,
    pooling: Annotated[
        str, choices.one_of(choices.SLICE_POOLINGS, "Of slices, for classify.", rich_help_panel=_HEAD)
    ] = "learned",
    tokens: Annotated[
        str | None, choices.one_of(choices.TOKENS, "Of classify. Default: cls if there is one.", rich_help_panel=_HEAD)
    ] = None,
    width: Annotated[int, _option("Of segment: channels the decoder begins with.", _HEAD, min=64)] = 512,
    dropout: Annotated[float | None, _option("Of the decoder. Default: 0.2; head 0.", _HEAD)] = None,
    window: Annotated[str | None, _option("Of segment: D,H,W of training crops and of windows.", _HEAD)] = None,
    precision: Precision = "fp32",
) -> None:
    """Train on the cases of the split train; val chooses the epoch, or a fifth of the training patients.

    A second run of the same command goes on where an interrupted one was. Several GPUs: begin the command with
    `torchrun --nproc-per-node N -m featlift.cli.main` instead of `featlift`.
    """
    from featlift.backbones.precision import resolve_device
    from featlift.cli.results import bars, found_masks
    from featlift.finetuning.cases import cases_of
    from featlift.finetuning.plan import FinetunePlan
    from featlift.finetuning.training import finetune as run
    from featlift.training.ranks import joined
    from featlift.volumes import Selection, find_scans

    plan = FinetunePlan(
        task=task,  # type: ignore[arg-type]
        adapt=adapt,  # type: ignore[arg-type]
        rank=rank,
        alpha=alpha,
        lora_dropout=lora_dropout,
        targets=words(lora_targets),
        slices=words(lora_slices),
        epochs=epochs,
        iterations=iterations,
        every=every,
        batch=batch,
        at_once=at_once,
        rate=rate,
        backbone_rate=backbone_rate,
        layer_decay=layer_decay,
        decay=decay,
        warm_up=warm_up,
        clip=clip,
        patience=patience,
        pooling=pooling,  # type: ignore[arg-type]
        tokens=tokens,  # type: ignore[arg-type]
        width=width,
        dropout=dropout,
        crop=numbers(window, int, "--window"),
        augment=augment,
        rope_rescale=rope_rescale,
        checkpointing=checkpointing,
        seed=seed,
    )
    config.check()
    selection = config.selection
    found = find_scans(inputs, Selection.of(selection), None, [])
    cases = cases_of(found.scans, labels, seed)
    masks, names = None, None
    if task == "segment":
        if not selection.masks:
            raise OptionError("--task segment: say with --masks where the masks are")
        masks, names = found_masks(cases.scans, str(selection.masks), selection.mask_pattern, label_names)
    device = resolve_device(config.network.device)
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        config = config.with_values({"device": f"cuda:{os.environ['LOCAL_RANK']}"})
    with joined(device) as ranks:
        made = run(
            cases,
            config,
            plan,
            output,
            columns=words(label),
            masks=masks,
            label_names=names,
            precision=precision,  # type: ignore[arg-type]
            workers=config.running.workers or 0,
            ranks=ranks,
            progress=bars("finetune") if ranks.first else None,
            told=epochs_bar("finetune", "auc" if task == "classify" else "dice") if ranks.first else None,
        )
        if ranks.first:
            typer.echo(_summary(made))


@finetune.command()
def predict(
    inputs: Annotated[list[str], typer.Argument(help="Scans, folders, manifests.")],
    model_dir: Annotated[Path, typer.Option(help="Folder of `featlift finetune train`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for predictions and results.")],
    labels: Labels = None,
    split: Annotated[str | None, choices.one_of(choices.SPLITS, "Only cases of this split.")] = None,
    masks: Annotated[str | None, typer.Option(help="Masks to score against: a folder, or a CSV with id,path.")] = None,
    mask_pattern: Annotated[str | None, typer.Option(help="Files that are masks, as '*_label.nii.gz'.")] = None,
    glob: Annotated[list[str] | None, typer.Option(help="Only paths that match, as '*_T1.nii.gz'; repeatable.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Of the network before training, where they lie elsewhere now.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    precision: Precision = "fp32",
) -> None:
    """Say what scans are, or segment them; measured where the truth is given, but for cases seen in training.

    Classes and their probabilities go to predictions.csv, segmentations to <id>.nii.gz on the voxels of each scan.
    """
    from featlift.cli.results import bars, intervals, written
    from featlift.config import SelectionConfig
    from featlift.evaluation import table
    from featlift.evaluation.classification.labels import rows_of_csv
    from featlift.finetuning.classifier import Classifier
    from featlift.finetuning.folder import read_model
    from featlift.finetuning.prediction import predict_labels, predict_masks
    from featlift.volumes import Selection, find_masks, find_scans
    from featlift.volumes.label_names import names_of_head

    selection = SelectionConfig(glob=tuple(glob or ()), masks=masks, mask_pattern=mask_pattern)
    scans = find_scans(inputs, Selection.of(selection), None, []).scans
    ids = {scan.id for scan in scans}
    own = {scan.id: {key: str(value) for key, value in scan.labels.items()} for scan in scans}
    rows = own if labels is None else rows_of_csv(labels, ids)
    if split is not None:
        scans = [scan for scan in scans if rows.get(scan.id, {}).get("split") == split]
        if not scans:
            raise OptionError(f"--split {split}: no scan is in it; --labels says which are")
    network, config, extract = read_model(model_dir, device, weights)
    how: dict[str, Any] = {"name": model_dir.name, "precision": precision, "progress": bars(model_dir.name)}
    if isinstance(network, Classifier):
        results = predict_labels(network, config, extract, scans, output, rows=rows, **how)
    else:
        names = names_of_head(config.labels)
        pairs = find_masks([scan.id for scan in scans], masks, mask_pattern, names) if masks else None
        result = predict_masks(network, config, extract, scans, output, masks=pairs, **how)
        results = [] if result is None else [result]
    typer.echo(f"{output}: {len(scans)} predicted")
    if results:
        written(results, output)
        typer.echo(f"Fine-tuned; {intervals(results)}")
        typer.echo(table(results))


def _summary(config: Config) -> str:
    counts, training = config.parameters, config.training
    measure = "auc" if "auc" in training else "dice"
    return (
        f"{config.name}: {counts['backbone']:,} parameters of the backbone and {counts['head']:,} of the head trained; "
        f"best validation {measure.upper() if measure == 'auc' else 'Dice'} {training[measure]:.3f} in round "
        f"{training['best_epoch']:.0f} of {training['epochs']}, {training['seconds']:.0f} s"
    )

"""`featlift segment`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlift.cli import choices
from featlift.cli.curves import epochs_bar
from featlift.cli.options import LabelNames, MaskPattern, MaskPlace, numbers, words
from featlift.cli.segment_objects import affinity_settings, finding, objects_written
from featlift.cli.segment_score import score
from featlift.counting import number_of
from featlift.errors import OptionError

if TYPE_CHECKING:
    from featlift.segmentation import Config

segment = typer.Typer(
    name="segment",
    help="Segmentation heads on the features of a store: train one, segment with it, score what it found.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Labels = Annotated[
    Path | None, typer.Option(help="A CSV with id,split and perhaps patient. Default: those columns of the index.")
]
Agglomeration = Annotated[
    str | None, choices.one_of(choices.AGGLOMERATIONS, "Of affinities: how objects are made. Default: mean, by waterz.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[str, choices.one_of(choices.HEAD_PRECISIONS, "auto is bf16 where the hardware has it.")]


@segment.command()
def train(
    store: Annotated[str, typer.Argument(help="The store, or its URL.")],
    masks: MaskPlace,
    head: Annotated[str, choices.one_of(choices.HEADS, "What is trained.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the head.")],
    task: Annotated[
        str, choices.one_of(choices.SEGMENT_TASKS, "affinities: whether neighbours are of one object, as of a neuron.")
    ] = "labels",
    offsets: Annotated[
        str | None, choices.one_of(choices.OFFSETS, "Of affinities: 3 of them, or 12. Default: neighbours.")
    ] = None,
    no_widen: Annotated[bool, typer.Option("--no-widen", help="Of affinities: no gaps between objects.")] = False,
    ignore: Annotated[str | None, typer.Option(help="Of affinities: ids that say nothing, as in 7,8.")] = None,
    agglomeration: Agglomeration = None,
    mask_pattern: MaskPattern = None,
    labels: Labels = None,
    label_names: LabelNames = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Absolute indices, as in 2,3, to be put together. Default: the deepest."),
    ] = None,
    features: Annotated[
        str,
        choices.one_of(
            choices.HEAD_FEATURES, "random: Gaussian ones on the same grid; none (dino3dra): a plain U-Net."
        ),
    ] = "store",
    step: Annotated[
        int | None, typer.Option(min=1, help="Voxels of the stored scan to a predicted one. Default: as the masks are.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Of decoder and subcube: channels. Default: 64.")] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Of decoder: put the scan beside the features.")] = False,
    window: Annotated[str | None, typer.Option(help="Of subcube: cells along d,h,w. Default: 8,8,8.")] = None,
    without: Annotated[str | None, choices.some_of(choices.ABLATIONS, "Of dino3dra: what it lacks.")] = None,
    patch: Annotated[
        str, typer.Option(help="Predicted voxels a side of a patch, at most, or along d,h,w: 18,160,160.")
    ] = "64",
    epochs: Annotated[int, typer.Option(min=1, help="At most.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Patches in a step.")] = 1,
    rate: Annotated[float | None, typer.Option(help="Learning rate. Default: the head's own.")] = None,
    patience: Annotated[int, typer.Option(min=1, help="Epochs to wait for a better validation.")] = 15,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Cross-validate: a head a fold, patients kept together, split test left out."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, patches, noise and folds.")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that read patches ahead.")] = 0,
) -> None:
    """Train a head on the masks of the split train; val chooses the epoch, or a fifth of the training patients.

    A second run of the same command goes on where an interrupted one was.
    """
    from featlift.backbones.precision import resolve_device
    from featlift.cli.results import bars, found_masks, opened
    from featlift.evaluation import read_column, read_splits
    from featlift.segmentation import Plan, cross_validate, folds_of, split_of, train_head

    affinities = affinity_settings(task, offsets, no_widen, ignore, agglomeration)
    if affinities and label_names:
        raise OptionError("--label-names are of labels, and --task affinities learns objects, whose ids are arbitrary")
    sides = numbers(patch, int, "--patch")
    given: dict[str, Any] = {"width": width, "skip": skip or None, "window": _window(window), "without": words(without)}
    plan = Plan(
        head,
        {name: value for name, value in given.items() if value},
        layers=numbers(layers, int, "--layers"),
        features=features,  # type: ignore[arg-type]
        step=step,
        patch=sides[0] if len(sides) == 1 else sides,
        epochs=epochs,
        batch=batch,
        rate=rate,
        patience=patience,
        seed=seed,
        affinities=affinities,
    )
    (opened_store,) = opened([store])
    pairs, names = found_masks(opened_store, masks, mask_pattern, label_names)
    patients = read_column(opened_store, labels, "patient")
    how: dict[str, Any] = {
        "label_names": names if label_names else None,
        "device": resolve_device(device),
        "precision": precision,
        "workers": workers,
        "told": epochs_bar(head, "error" if affinities else "dice"),
    }
    configs: Iterable[Config]
    if folds is None:
        split = split_of(read_splits(opened_store, labels), patients, seed)
        configs = [train_head(opened_store, pairs, split, plan, output, progress=bars(head), **how)]
    else:
        splits = read_column(opened_store, labels, "split")
        ids = [case_id for case_id in opened_store if case_id in pairs and splits.get(case_id) != "test"]
        parts = folds_of(ids, patients, folds, seed)
        configs = cross_validate(opened_store, pairs, parts, plan, output, **how)
    for config in configs:
        typer.echo(_summary(config))


@segment.command()
def predict(
    store: Annotated[str, typer.Argument(help="The store, or its URL.")],
    head: Annotated[Path, typer.Option(help="Folder of a trained head, or of the folds of a cross-validation.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the segmentations.")],
    case: Annotated[list[str] | None, typer.Option(help="Only this case; repeatable.")] = None,
    split: Annotated[str | None, choices.one_of(choices.SPLITS, "Only cases of this split.")] = None,
    labels: Labels = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Folder of scans, to take their voxels. Default: as the store recorded the files."),
    ] = None,
    grid: Annotated[
        str,
        choices.one_of(choices.PREDICTED, "The voxels of each case's own file, or those of the stored scan."),
    ] = "input",
    agglomeration: Agglomeration = None,
    threshold: Annotated[
        float | None, typer.Option(help="Of affinities: 0 to 1; larger merges more. Default: chosen in training.")
    ] = None,
    format: Annotated[  # noqa: A002 - the word of the command line
        str | None, choices.one_of(choices.OBJECT_FORMATS, "Of affinities: files of objects. Default: hdf5.")
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Of affinities: nanometres along d,h,w of scans that do not say, as in 40,4,4.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Segment cases, as NIfTI files in the place of their scans in the patient; into objects with a head of affinities.

    These are written in CREMI's layout, and scored by `featlift segment score FOLDER --masks TRUTH --metric voi,arand`.
    """
    from featlift.backbones.precision import resolve_device
    from featlift.cli.results import bars, opened, some
    from featlift.evaluation import read_splits
    from featlift.segmentation import grids_of, open_trained
    from featlift.segmentation import predict as segmented

    (opened_store,) = opened([store])
    ids = list(dict.fromkeys(case or ()))
    if split is not None and case:
        raise OptionError("--case and --split both say which cases: give one of them")
    if split is not None:
        ids = [case_id for case_id, name in read_splits(opened_store, labels).items() if name == split]
        if not ids:
            raise OptionError(f"--split {split}: no case is in it")
    elif labels is not None:
        raise OptionError("--labels says which cases are in which split: give --split too")
    trained = open_trained(head)
    opened_store.require_cases(ids)
    if how := finding(trained.config, agglomeration, threshold, format, resolution, grid, like):
        written = objects_written(opened_store, trained, output, ids, how, device, precision)
        typer.echo(f"{number_of(len(written), 'segmentation')} in {output}")
        return
    if like is None and grid == "input":
        own = grids_of(opened_store, ids or list(opened_store))
        if kept := [case_id for case_id in ids or opened_store if case_id not in own]:
            why = "regions, without geometry, or extracted before their files' grid was recorded"
            typer.echo(
                f"featlift: {len(kept)} of {len(ids or opened_store)} cases keep the grid of the stored scan ({why}; "
                f"--like SCANS takes the files' voxels): {some(kept)}",
                err=True,
            )
    written = segmented(
        opened_store,
        trained,
        output,
        ids,
        like,
        resolve_device(device),
        precision,  # type: ignore[arg-type]
        bars(opened_store.name),
        grid,  # type: ignore[arg-type]
    )
    typer.echo(f"{number_of(len(written), 'segmentation')} in {output}")


segment.command()(score)


def _window(text: str | None) -> tuple[int, ...] | None:
    sizes = numbers(text, int, "--window")
    if sizes and (len(sizes) != 3 or min(sizes) < 1):
        raise OptionError(f"--window {text!r}: give cells along d,h,w, as in 8,8,8")
    return sizes or None


def _summary(config: Config) -> str:
    counts = config.parameters
    parts = "".join(f", {count:,} of them {name}" for name, count in counts.items() if name != "trainable")
    training = config.training
    measure, name, objects = "dice", "Dice", ""
    if held := config.objects:
        measure = name = "error"
        objects = f"; threshold {held['threshold']:g}: VOI {held['voi']:.3f} bits, ARAND {held['arand']:.3f}"
    return (
        f"{config.name}: {counts['trainable']:,} trainable parameters{parts}; "
        f"best validation {name} {training[measure]:.3f} after epoch {training['best_epoch']:.0f} of "
        f"{training['epochs']}, {training['seconds']:.0f} s{objects}"
    )

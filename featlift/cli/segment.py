"""`featlift segment`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlift.cli import choices
from featlift.cli.curves import epochs_bar
from featlift.cli.options import LabelNames, MaskPattern, MaskPlace, numbers, words
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
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[str, choices.one_of(choices.HEAD_PRECISIONS, "auto is bf16 where the hardware has it.")]


@segment.command()
def train(
    store: Annotated[str, typer.Argument(help="The store, or its URL.")],
    masks: MaskPlace,
    head: Annotated[str, choices.one_of(choices.HEADS, "What is trained.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the head.")],
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
    patch: Annotated[int, typer.Option(min=1, help="Predicted voxels a side of a patch, at most.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="At most.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Patches in a step.")] = 1,
    rate: Annotated[float | None, typer.Option(help="Learning rate. Default: the head's own.")] = None,
    patience: Annotated[int, typer.Option(min=1, help="Epochs to wait for a better validation Dice.")] = 15,
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

    given: dict[str, Any] = {"width": width, "skip": skip or None, "window": _window(window), "without": words(without)}
    plan = Plan(
        head,
        {name: value for name, value in given.items() if value},
        layers=numbers(layers, int, "--layers"),
        features=features,  # type: ignore[arg-type]
        step=step,
        patch=patch,
        epochs=epochs,
        batch=batch,
        rate=rate,
        patience=patience,
        seed=seed,
    )
    (opened_store,) = opened([store])
    pairs, names = found_masks(opened_store, masks, mask_pattern, label_names)
    patients = read_column(opened_store, labels, "patient")
    how: dict[str, Any] = {
        "label_names": names if label_names else None,
        "device": resolve_device(device),
        "precision": precision,
        "workers": workers,
    }
    configs: Iterable[Config]
    if folds is None:
        split = split_of(read_splits(opened_store, labels), patients, seed)
        configs = [
            train_head(opened_store, pairs, split, plan, output, told=epochs_bar(head), progress=bars(head), **how)
        ]
    else:
        splits = read_column(opened_store, labels, "split")
        ids = [case_id for case_id in opened_store if case_id in pairs and splits.get(case_id) != "test"]
        parts = folds_of(ids, patients, folds, seed)
        configs = cross_validate(opened_store, pairs, parts, plan, output, told=epochs_bar(head), **how)
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
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Segment cases, as NIfTI files in the place of their scans in the patient."""
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


@segment.command()
def score(
    store: Annotated[
        str,
        typer.Argument(help="The store, or its URL. With --metric a segmentation, FILE::NAME, or a folder of them."),
    ],
    masks: MaskPlace,
    predictions: Annotated[
        list[Path] | None, typer.Option(help="Folder of segmentations; several times for several.")
    ] = None,
    mask_pattern: MaskPattern = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="voi,arand", help="Of instances: variation of information, adapted Rand error."),
    ] = None,
    convention: Annotated[
        str, choices.one_of(choices.CONVENTIONS, "With --metric: whose adapted Rand error and ignored ids.")
    ] = "skimage",
    ignore: Annotated[
        str | None,
        typer.Option(help="With --metric: ids of the truth that do not count. Default: 0; of cremi 2^64 - 1."),
    ] = None,
    border: Annotated[
        float,
        typer.Option(min=0, help="With --metric: nanometres from a true border in the section that do not count."),
    ] = 0.0,
    resolution: Annotated[
        str | None, typer.Option(help="With --border: nanometres along d,h,w, as in 40,4,4. Default: as the files say.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("results"),
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap.")] = 1_000,
) -> None:
    """Compare segmentations with masks: Dice, HD95, ASD, volume similarity, failures.

    Cases that the head was trained on do not count. With --metric: segmentations into objects, such as neurons, whose
    ids are arbitrary.
    """
    from featlift.cli.score_instances import score_instances, scoring_of

    if metric is not None:
        if predictions:
            raise OptionError("--metric scores instances: give their segmentation in the place of the store")
        how = scoring_of(metric, convention, ignore, border, resolution)
        score_instances(store, masks, mask_pattern, how, output, seed, resamples)
        return
    if ignore or border or resolution or convention != "skimage":
        raise OptionError("--convention, --ignore, --border and --resolution are of instances: give --metric voi,arand")
    if not predictions:
        raise OptionError("--predictions: give the folder that `featlift segment predict` wrote, or --metric voi,arand")
    from featlift.cli.results import bars, intervals, opened, print_missing_distances, some, written
    from featlift.evaluation import table
    from featlift.segmentation import cases_to_score, read_notes, segment_result
    from featlift.segmentation import score as compared
    from featlift.volumes import find_masks
    from featlift.volumes.label_names import names_of_head

    (opened_store,) = opened([store])
    results = []
    for folder in predictions:
        notes = read_notes(folder)
        pairs = find_masks(opened_store, masks, mask_pattern, names_of_head(notes["labels"]))
        ids = cases_to_score(notes, pairs)
        if notes["seen"]:
            count = f"{len(notes['seen'])} of {len(notes['cases'])} cases"
            typer.echo(f"featlift: {folder}: {count} were seen in training: {some(notes['seen'])}", err=True)
        scores = compared(opened_store, folder, pairs, ids, bars(notes["head"]))
        results += written([segment_result(opened_store, notes, scores, seed, resamples)], output)
    typer.echo(f"Segmentations; {intervals(results)}; failures are labels with a Dice below 0.5")
    typer.echo(table(results))
    for result in results:
        print_missing_distances(result.name, result)


def _window(text: str | None) -> tuple[int, ...] | None:
    sizes = numbers(text, int, "--window")
    if sizes and (len(sizes) != 3 or min(sizes) < 1):
        raise OptionError(f"--window {text!r}: give cells along d,h,w, as in 8,8,8")
    return sizes or None


def _summary(config: Config) -> str:
    counts = config.parameters
    parts = "".join(f", {count:,} of them {name}" for name, count in counts.items() if name != "trainable")
    training = config.training
    return (
        f"{config.name}: {counts['trainable']:,} trainable parameters{parts}; "
        f"best validation Dice {training['dice']:.3f} after epoch {training['best_epoch']:.0f} of "
        f"{training['epochs']}, {training['seconds']:.0f} s"
    )

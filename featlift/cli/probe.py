"""`featlift probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlift.cli import choices
from featlift.cli.options import LabelNames, numbers, words
from featlift.errors import OptionError

_OF_BAGS = "--bag, --pooling, --attention, --hidden, --gate and --instances"


def probe(
    stores: Annotated[
        list[str],
        typer.Argument(
            help="The store, or its URL, or a Parquet or CSV of id and vector; several are compared in one table."
        ),
    ],
    labels: Annotated[
        Path | None, typer.Option(help="A CSV with id,label,split. Default: the labels in the store's index.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Columns to predict, as in nodule,effusion. Default: label, or all of them.")
    ] = None,
    protocol: Annotated[str, choices.one_of(choices.PROBES, "How it is trained.")] = "planecycle",
    given: Annotated[
        str | None, choices.one_of(choices.INPUTS, "Part of the embedding. Default: cls if there is one.", "--input")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Of the trainings, all at once.")] = "0,1,2,3,4",
    iterations: Annotated[int | None, typer.Option(min=1, help="Instead of the published number.")] = None,
    bag: Annotated[str | None, choices.one_of(choices.BAGS, "Of abmil: what it attends to. Default: slices.")] = None,
    pooling: Annotated[
        str | None, choices.one_of(choices.POOLINGS, "Of abmil: mean and max are controls. Default: attention.")
    ] = None,
    attention: Annotated[
        Path | None, typer.Option(help="Of abmil: folder for what it attends to in the tested cases, as NIfTI.")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(min=1, help="Of abmil: channels of an instance, projected. Default: 128.")
    ] = None,
    gate: Annotated[
        int | None, typer.Option(min=1, help="Of abmil: width of the attention's hidden layer. Default: 64.")
    ] = None,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Of abmil: most of a bag in a training step. Default: 2048.")
    ] = None,
    dense: Annotated[bool, typer.Option("--dense", help="Label every voxel instead, as masks do.")] = False,
    masks: Annotated[
        str | None, typer.Option(help="Of --dense: a folder of masks, named as the cases, or a CSV with id,path.")
    ] = None,
    mask_pattern: Annotated[str | None, typer.Option(help="Of --dense: files of the folder that are masks.")] = None,
    label_names: LabelNames = None,
    weighting: Annotated[
        str, choices.one_of(choices.WEIGHTINGS, "Of --dense: every one of which counts alike in training.")
    ] = "cells",
    cells: Annotated[int, typer.Option(min=1, help="Of --dense: to train on, of all cases together.")] = 100_000,
    layer: Annotated[
        int | None, typer.Option(help="Of --dense and abmil: absolute index. Default: the deepest.")
    ] = None,
    on: Annotated[
        str, choices.one_of(choices.ON, "Of --dense: cells and the scan's voxels, or the mask's own voxels.")
    ] = "scan",
    features: Annotated[str, typer.Option(help=f"Of --dense: {choices.SOURCES_HELP}")] = "stored",
    save_maps: Annotated[Path | None, typer.Option(help="Of --dense: folder for logits and predictions.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("results"),
    specificity: Annotated[float, typer.Option(min=0, max=1, help="At which sensitivity is read.")] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap.")] = 1_000,
) -> None:
    """Train a probe on frozen features, and measure it on the test split.

    Writes a result file (JSON and CSV) for each store and label, and of several labels one of their mean. With --dense
    the truth is masks, the split that of --labels or of the index, and logistic regression of feature cells the probe.
    """
    bags = {"bag": bag, "pooling": pooling, "hidden": hidden, "gate": gate, "instances": instances}
    bags = {name: value for name, value in bags.items() if value is not None}
    if dense:
        if label or given or iterations or protocol != "planecycle":
            raise OptionError("--label, --protocol, --input and --iterations do not belong to --dense")
        if bags or attention:
            raise OptionError(f"{_OF_BAGS} belong to --protocol abmil, not to --dense")
        from featlift.cli.dense import dense as probe_cells

        all_seeds = numbers(seeds, int, "--seeds")
        training = (masks, mask_pattern, label_names, labels, weighting, cells, layer, on, features, all_seeds)
        probe_cells(stores, *training, save_maps, output, seed, resamples)
        return
    attends = protocol == "abmil"
    of_cells = layer is not None and not attends
    of_masks = masks or mask_pattern or label_names
    if of_masks or save_maps or of_cells or on != "scan" or features != "stored":
        of_dense = "--masks, --mask-pattern, --label-names, --layer (of abmil too), --on, --features and --save-maps"
        raise OptionError(f"{of_dense} belong to --dense: give that too")
    if (bags or attention) and not attends:
        raise OptionError(f"{_OF_BAGS} belong to --protocol abmil: give that too")
    from featlift.cli.results import bars, intervals, opened, tasks_of, written
    from featlift.evaluation import BagProbe, Probe, table
    from featlift.evaluation import probe as evaluate

    how = Probe(
        protocol,  # type: ignore[arg-type]
        given,
        numbers(seeds, int, "--seeds"),
        iterations,
        specificity,
        seed,
        resamples,
        BagProbe(**bags, layer=layer) if attends else None,  # type: ignore[arg-type]
    )
    results = []
    for store in opened(stores, vectors=True):
        tasks = tasks_of(store, labels, words(label))
        results += written(evaluate(store, tasks, how, bars(store.name), attention), output)
    inputs = ", ".join(dict.fromkeys(result.protocol["input"] for result in results))
    spread = f"mean ± standard deviation of {len(how.seeds)} seeds, " if len(results[0].seeds) > 1 else ""
    names = ", ".join(dict.fromkeys(result.protocol["name"] for result in results))
    typer.echo(f"Probe {names} on {inputs}; {spread}{intervals(results)}")
    typer.echo(table(results))

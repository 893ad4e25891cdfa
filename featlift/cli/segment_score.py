"""`featlift segment score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlift.cli import choices
from featlift.cli.options import MaskPattern, MaskPlace
from featlift.errors import OptionError


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

"""`featlift knn`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlift.cli import choices
from featlift.cli.options import numbers, words
from featlift.counting import number_of


def knn(
    stores: Annotated[
        list[str],
        typer.Argument(
            help="The store, or its URL, or a Parquet or CSV of id and vector; several are compared in one table."
        ),
    ],
    labels: Annotated[
        Path | None, typer.Option(help="A CSV with id,label[,split]. Default: the labels in the store's index.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Columns to predict, as in nodule,effusion. Default: label, or all of them.")
    ] = None,
    given: Annotated[
        str | None, choices.one_of(choices.INPUTS, "Part of the embedding. Default: cls if there is one.", "--input")
    ] = None,
    k: Annotated[str, typer.Option("-k", "--k", help="How many neighbours vote.")] = "10,20,100,200",
    temperature: Annotated[float, typer.Option(help="Of the votes.")] = 0.07,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("results"),
    specificity: Annotated[float, typer.Option(min=0, max=1, help="At which sensitivity is read.")] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap.")] = 1_000,
) -> None:
    """Classify each case by those most like it: cosine k-NN on embeddings, nothing trained.

    The test split by the train split; without splits every case by all others. Writes a result file (JSON and CSV) for
    each store, label and k, and of several labels one of their mean.
    """
    from featlift.cli.results import intervals, opened, tasks_of, written
    from featlift.evaluation import knn as evaluate
    from featlift.evaluation import table

    ks = numbers(k, int, "-k")
    results = []
    for store in opened(stores, vectors=True):
        tasks = tasks_of(store, labels, words(label))
        found = evaluate(store, tasks, given, ks, temperature, specificity=specificity, seed=seed, resamples=resamples)
        results += written(found, output)
    for result in results:
        if fewer := result.details.get("left_out_k"):
            known = f"{number_of(result.details['known'], 'case')} to learn from"
            typer.echo(f"featlift: {result.store}, {result.task}: {known}, so no k of {fewer}", err=True)
            break
    inputs = ", ".join(dict.fromkeys(f"{result.protocol['name']}, {result.protocol['input']}" for result in results))
    typer.echo(f"k-NN, {inputs}; {intervals(results)}")
    typer.echo(table(results))

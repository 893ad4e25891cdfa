"""`featlift compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlift.cli import choices


def compare(
    results: Annotated[list[Path], typer.Argument(help="Result files (JSON), or folders of them.")],
    measure: Annotated[
        list[str] | None, typer.Option(help="As named in the files; several times for several. Default: the main ones.")
    ] = None,
    over: Annotated[
        str | None, choices.one_of(choices.PAIRED, "What t-tests pair. Default: cases; seeds for an AUC.")
    ] = None,
    to: Annotated[str, choices.one_of(choices.TABLES, "What the table is written as.")] = "markdown",
    figure: Annotated[Path | None, typer.Option(help="File for a figure: .svg, .png or .pdf.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap.")] = 10_000,
) -> None:
    """Put results side by side: means, and what differs by more than chance.

    Only results of the same cases, masks or labels, and protocol are compared: models, modes, layers may differ.
    """
    from featlift.evaluation import compare, comparison_text, read_results, write_figure

    comparison = compare(read_results(results), measure or (), over, seed, resamples)  # type: ignore[arg-type]
    text = comparison_text(comparison, to)
    if figure is not None:
        write_figure(comparison, figure)
        typer.echo(f"featlift: {figure}", err=True)
    typer.echo(text, nl=False)

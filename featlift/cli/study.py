"""`featlift study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli.options import human_seconds

if TYPE_CHECKING:
    from featlift.study import Summary
    from featlift.study.running import Planned


def study(
    file: Annotated[
        Path, typer.Argument(help="The study's TOML file; or a study.json, to draw table and figure again.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for results, table and figure.")] = Path(
        "study"
    ),
    data: Annotated[
        Path | None, typer.Option(help="Folder of the scans and masks that the file names. Default: the file's own.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell scores, hours and bytes, and end.")] = False,
    shard: Annotated[str | None, typer.Option(help="I/N: only every N-th arm, of N processes on one folder.")] = None,
) -> None:
    """Run a study: many extractions and evaluations from one file, with controls.

    Arm by arm it extracts, scores and lets the features go. Layers, cycles or sizes are chosen on the split val; the
    split test is opened for what was chosen. A study can be stopped and started again.
    """
    from featlift.cli.results import bars
    from featlift.study import read_study, read_summary, run_study
    from featlift.study.writing import write_summary

    if file.suffix == ".json":
        summary = read_summary(file)
        write_summary(summary, output)
        _show(summary, output)
        return
    from featlift.extraction import Shard
    from featlift.study.running import plan_study

    asked = read_study(file, data)
    if dry_run:
        _show_plan(plan_study(asked, output, bars(asked.name)))
        return
    part = Shard.parse(shard) if shard else None
    try:
        found = run_study(asked, output, part, bars(asked.name), lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        typer.echo("featlift: stopped; the same command goes on where this one was", err=True)
        raise
    if found is not None:
        _show(found, output)


def _show(summary: Summary, output: Path) -> None:
    from featlift.study.text import summary_text

    typer.echo(summary_text(summary))
    typer.echo(f"featlift: {output}: study.json, table.md, figure.svg, figure.png", err=True)


def _show_plan(planned: list[Planned]) -> None:
    from featlift.sizes import human_bytes

    rows = [("cohort", "arm", "scores left", "volumes", "lifting", "store")]
    for each in planned:
        numbers = (str(each.cells), str(each.cost.volumes), human_seconds(each.seconds), human_bytes(each.bytes))
        rows.append((each.cohort, each.arm, *numbers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    left = [each for each in planned if each.cells]
    hours = sum(each.seconds for each in left) / 3600
    largest = max((each.bytes for each in planned), default=0)
    typer.echo(
        f"{sum(each.cells for each in planned)} scores at most, {hours:.1f} hours of lifting every volume once, "
        f"{human_bytes(largest)} for the largest store; scoring comes on top"
    )

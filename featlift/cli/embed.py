"""`featlift embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from featlift.cli import choices
from featlift.cli.scan_bar import print_failed, scan_bar
from featlift.config.presets import presets
from featlift.counting import number_of


def embed(
    scans: Annotated[list[str], typer.Argument(help="Scans, or folders that are searched for scans; or their URLs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of vectors: .parquet or .npz.")] = Path(
        "embeddings.parquet"
    ),
    store: Annotated[
        str | None, typer.Option(help="A store to keep, or its URL; the same command goes on with it.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help=f"{', '.join(presets())}. Default: by the scans.")] = None,
    dense: Annotated[Path | None, typer.Option(help="A folder for the dense features as well.")] = None,
    dense_as: Annotated[str, choices.one_of(choices.DENSE_FORMATS, "Format of --dense.")] = "nifti",
    model: Annotated[
        str | None, typer.Option(help="A name of `featlift models`, or a timm name. Default: the best that is here.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weights file of --model.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read ahead.", envvar="FEATLIFT_WORKERS")
    ] = None,
) -> None:
    """Embed scans: a vector each, for knn, probe, retrieve, pandas and NumPy. No option is needed.

    CT or MR is told by DICOM or by the values. Axes, spacing, window, mode and layer rest on studies as far as there
    are any (docs/how-to/embed.md). The network is the best whose weights are on this machine: nothing is downloaded.
    """
    from featlift.embedding import embed

    running: dict[str, Any] = {"device": device, "workers": workers}
    stopped = "the same command goes on where this one was" if store else "with --store the same command would go on"
    with scan_bar(stopped) as bar:
        done = embed(
            scans,
            output,
            store=store,
            preset=preset,
            dense=dense,
            dense_as=dense_as,  # type: ignore[arg-type]
            model=model,
            weights=weights,
            progress=bar,
            notify=lambda line: typer.echo(line, err=True),
            **running,
        )
    if done.vectors:
        typer.echo(f"{output}: {number_of(done.vectors, 'vector')}, in {done.extracted.seconds:.1f} s")
    if others := done.extracted.claimed_by_others:
        typer.echo(
            f"left to other jobs: {number_of(len(others), 'scan')}; the same command tells if they came", err=True
        )
    print_failed(done.failed)

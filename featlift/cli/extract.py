"""`featlift extract`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli.configured import configured
from featlift.cli.confirming import confirm_size
from featlift.cli.scan_bar import print_failed, scan_bar
from featlift.config import ExtractConfig
from featlift.counting import number_of
from featlift.sizes import parse_size

if TYPE_CHECKING:
    from featlift.cohort import Extracted

_LISTED = 10


@configured()
def extract(
    inputs: Annotated[list[str], typer.Argument(help="Scans, or folders that are searched for scans; or their URLs.")],
    config: ExtractConfig,
    output: Annotated[str, typer.Option("--output", "-o", help="The store to write, or its URL.")] = "features.zarr",
) -> None:
    """Lift scans into a Zarr store of features.

    Scans are NIfTI, Analyze, NRRD, MetaImage, NumPy, HDF5, Zarr, TIFF, MedMNIST, DICOM (folder or .zip), or rows of a
    manifest (a CSV with id,path). What is complete already is skipped; a run can be stopped and started again.
    """
    from featlift.cohort import extract_cohort

    running = config.running
    above = None if running.yes else parse_size(running.confirm_above)
    with scan_bar("the same command goes on where this one was") as bar:
        extracted = extract_cohort(
            inputs,
            output,
            config,
            progress=bar,
            notify=lambda line: typer.echo(line, err=True),
            confirm=lambda forecast: confirm_size(forecast, above or sys.maxsize),
        )
    _report(extracted)


def _report(extracted: Extracted) -> None:
    """Say what became of the cohort; ends the command with 1 if scans failed."""
    others = extracted.claimed_by_others
    if not extracted.todo:
        typer.echo(f"{extracted.store}: {number_of(extracted.complete, 'volume')} complete, nothing to do")
        return
    parts = [
        f"{extracted.done} extracted",
        *([f"{extracted.complete} complete before"] if extracted.complete else []),
        *([f"{len(others)} in the hands of another job"] if others else []),
        f"{len(extracted.failed)} failed",
    ]
    typer.echo(f"{extracted.store}: {', '.join(parts)} in {extracted.seconds:.1f} s")
    if extracted.bottleneck:
        typer.echo(extracted.bottleneck)
    if others:
        more = "" if len(others) <= _LISTED else f" and {len(others) - _LISTED} more"
        typer.echo(f"left to other jobs: {', '.join(others[:_LISTED])}{more}; the same command tells if they came")
    print_failed(extracted.failed)

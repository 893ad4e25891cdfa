"""`featlift extract`."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli.configured import configured
from featlift.cli.confirming import confirm_size
from featlift.cli.interrupts import remembered_interrupts
from featlift.config import ExtractConfig
from featlift.counting import number_of
from featlift.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from tqdm import tqdm

    from featlift.cohort import Extracted
    from featlift.extraction.outcome import Outcome

_LISTED = 10
_WIDEST = 60  # letters of an id in a table


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
    try:
        with remembered_interrupts() as check_interrupt, closing(_Bar(check_interrupt)) as bar:
            extracted = extract_cohort(
                inputs,
                output,
                config,
                progress=bar,
                notify=lambda line: typer.echo(line, err=True),
                confirm=lambda forecast: confirm_size(forecast, above or sys.maxsize),
            )
    except KeyboardInterrupt:
        typer.echo("featlift: stopped; the same command goes on where this one was", err=True)
        raise
    _report(extracted)


class _Bar:
    """A bar that shows how far a run is, and the scans that failed."""

    def __init__(self, check_interrupt: Callable[[], None]) -> None:
        self._check_interrupt = check_interrupt
        self._bar: tqdm[None] | None = None

    def __call__(self, outcome: Outcome | None, done: int, total: int) -> None:
        """Tell of a scan that is through."""
        from tqdm import tqdm

        if self._bar is None or outcome is None:
            self._bar = tqdm(total=total, unit="volume", disable=None)
            return
        self._bar.update()
        self._check_interrupt()
        self._bar.set_description(outcome.id)
        if outcome.status == "failed" and not self._bar.disable:
            self._bar.write(f"failed  {outcome.id}: {outcome.reason}")

    def close(self) -> None:
        """Leave the line of the bar."""
        if self._bar is not None:
            self._bar.close()


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
    if extracted.failed:
        width = min(max(map(len, extracted.failed)), _WIDEST)
        typer.echo(f"\n{'case':<{width}}  reason", err=True)
        for case_id, reason in extracted.failed.items():
            typer.echo(f"{case_id:<{width}}  {reason}", err=True)
        raise typer.Exit(1)

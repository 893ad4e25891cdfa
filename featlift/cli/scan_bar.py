"""How far a run over scans is, and which of them failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import typer

from featlift.cli.interrupts import remembered_interrupts

if TYPE_CHECKING:
    from tqdm import tqdm

    from featlift.extraction.outcome import Outcome

_WIDEST = 60  # letters of an id in a table


class ScanBar:
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


@contextmanager
def scan_bar(goes_on: str) -> Iterator[ScanBar]:
    """A bar for a run; at Ctrl-C it is told what follows (`goes_on`)."""
    try:
        with remembered_interrupts() as check_interrupt, closing(ScanBar(check_interrupt)) as bar:
            yield bar
    except KeyboardInterrupt:
        typer.echo(f"featlift: stopped; {goes_on}", err=True)
        raise


def print_failed(failed: Mapping[str, str]) -> None:
    """Say why scans failed, a row each; ends the command with 1 if any did."""
    if not failed:
        return
    width = min(max(map(len, failed)), _WIDEST)
    typer.echo(f"\n{'case':<{width}}  reason", err=True)
    for case_id, reason in failed.items():
        typer.echo(f"{case_id:<{width}}  {reason}", err=True)
    raise typer.Exit(1)

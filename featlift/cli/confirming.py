"""Say how large a store will be, and ask before a large one is written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from featlift.counting import number_of
from featlift.errors import OptionError
from featlift.sizes import decimal_bytes

if TYPE_CHECKING:
    from featlift.store.forecast import Forecast

_WORTH_A_WORD = 0.001  # of the whole


def confirm_size(forecast: Forecast, above: int) -> None:
    """Print a forecast; one above so many bytes needs a yes.

    Raises:
        OptionError: it needs one, and nobody is at a terminal.
        typer.Exit: the answer is no.
    """
    if not forecast.bytes:  # all are there, or none can be read, which the run will tell
        return
    typer.echo(f"featlift: {_sentence(forecast)}", err=True)
    if forecast.bytes <= above:
        return
    if not sys.stdin.isatty():
        raise OptionError(
            f"a store of {decimal_bytes(forecast.bytes)}, more than --confirm-above {decimal_bytes(above)}: give --yes "
            "to write it, or keep less with --save, --save-dtype or --reduce"
        )
    if not typer.confirm("Write it?", err=True):
        raise typer.Exit(2)


def _sentence(forecast: Forecast) -> str:
    total = forecast.bytes
    parts = [
        f"{name} {decimal_bytes(size)}" for name, size in forecast.bytes_by_key.items() if size >= _WORTH_A_WORD * total
    ]
    volumes = number_of(forecast.volumes, "volume")
    sampled = f" (by {number_of(forecast.sampled, 'header')})" if forecast.sampled < forecast.volumes else ""
    about = "at most about" if forecast.at_most else "about"
    return f"{about} {decimal_bytes(total)} for {volumes}{sampled}: {', '.join(parts)}"

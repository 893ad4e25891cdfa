"""`featlift index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlift.counting import number_of


def index(
    store: Annotated[str, typer.Argument(help="The store, or its URL.")],
    labels: Annotated[Path | None, typer.Option(help="A CSV with a column id: its columns join the index.")] = None,
) -> None:
    """Write the store's index anew from its volumes; label columns are kept."""
    from featlift.remote import parse_location
    from featlift.store import rebuild_index
    from featlift.store.index import is_damaged
    from featlift.store.layout import DAMAGED_INDEX

    if is_damaged(store):
        typer.echo(
            f"featlift: the index was damaged and is kept as {DAMAGED_INDEX}: give its labels again with --labels",
            err=True,
        )
    count = rebuild_index(store, labels)
    typer.echo(f"{parse_location(store)}/index.parquet: {number_of(count, 'case')}")

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
    from featlift.remote import located
    from featlift.store import rebuild_index

    count = rebuild_index(store, labels)
    typer.echo(f"{located(store)}/index.parquet: {number_of(count, 'case')}")

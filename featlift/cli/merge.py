"""`featlift merge`."""

from __future__ import annotations

from typing import Annotated

import typer

from featlift.counting import number_of


def merge(
    stores: Annotated[list[str], typer.Argument(help="The stores to join, all of one recipe.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The store to make, or to add to.")],
) -> None:
    """Join stores of one recipe. Every byte is compared with what was written; nothing is copied that can be linked.

    A merge can be stopped and started again. The stores stay as they are.
    """
    from tqdm import tqdm

    from featlift.store.merging import Merge

    merging = Merge(stores, output)
    total = len(merging.holders)
    damaged = 0
    for case_id, damage in tqdm(merging.run(), total=total, unit="volume", disable=None):
        damaged += bool(damage)
        for item in damage:
            typer.echo(f"damaged  {case_id}  {item.key}: {item.what}")
    if damaged:
        typer.echo(
            f"{output}: {number_of(total - damaged, 'volume')}, {damaged} damaged left out: "
            "extract them and merge again"
        )
        raise typer.Exit(1)
    typer.echo(f"{output}: {number_of(total, 'volume')} of {number_of(len(stores), 'store')}")

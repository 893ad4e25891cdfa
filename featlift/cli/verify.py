"""`featlift verify`."""

from __future__ import annotations

from typing import Annotated

import typer


def verify(store: Annotated[str, typer.Argument(help="The store, or its URL.")]) -> None:
    """Read every byte of a store and compare it with what was written. Damaged volumes are made again by extract."""
    from tqdm import tqdm

    from featlift import store as stores
    from featlift.store.verification import damage_of_store
    from featlift.store.writing import write_damaged

    damaged: dict[str, list[str]] = {}
    opened, count = stores.open_store(store), 0
    for case_id, damage in tqdm(stores.verify(store), total=len(opened), unit="volume", disable=None):
        count += 1
        if damage:
            damaged[case_id] = [str(item) for item in damage]
    of_store = list(damage_of_store(store))
    for case_id, found in damaged.items():
        for what in found:
            typer.echo(f"damaged  {case_id}  {what}")
    for item in of_store:
        typer.echo(f"damaged  {item.case}  {item}" if item.case else f"damaged  {item}")
    try:
        write_damaged(store, damaged)
    except OSError as error:
        typer.echo(
            f"featlift: cannot note this in the store ({error.strerror or error}), so extract will not repair it",
            err=True,
        )
    if damaged:
        typer.echo(
            f"{opened.path}: {len(damaged)} of {count} volumes damaged; run the same extract again to repair them"
        )
    if damaged or of_store:
        raise typer.Exit(1)
    typer.echo(f"{opened.path}: all {count} volumes are as written")

"""`featlift verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from featlift.counting import number_of


def verify(store: Annotated[str, typer.Argument(help="The store, or its URL.")]) -> None:
    """Read every byte of a store and compare it with what was written. Damaged volumes are made again by extract."""
    from tqdm import tqdm

    from featlift import store as stores
    from featlift.store.layout import BASIS
    from featlift.store.verification import damage_of_basis
    from featlift.store.writing import write_damaged

    damaged: dict[str, list[str]] = {}
    opened, count = stores.open_store(store), 0
    for case_id, damage in tqdm(stores.verify(store), total=len(opened), unit="volume", disable=None):
        count += 1
        if damage:
            damaged[case_id] = [f"{item.key}: {item.what}" for item in damage]
    for case_id, found in damaged.items():
        for what in found:
            typer.echo(f"damaged  {case_id}  {what}")
    try:
        write_damaged(store, damaged)
    except OSError as error:
        typer.echo(
            f"featlift: cannot note this in the store ({error.strerror or error}), so extract will not repair it",
            err=True,
        )
    if what_of_basis := damage_of_basis(store):
        typer.echo(f"damaged  {BASIS}: {what_of_basis}; put it back from a copy: no run makes it again")
    if damaged:
        typer.echo(
            f"{opened.path}: {len(damaged)} of {number_of(count, 'volume')} damaged; "
            "run the same extract again to repair them"
        )
    if damaged or what_of_basis:
        raise typer.Exit(1)
    typer.echo(f"{opened.path}: {number_of(count, 'volume')}, all as written")

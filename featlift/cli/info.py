"""`featlift info`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from featlift.counting import number_of
from featlift.errors import StoreError
from featlift.sizes import human_bytes


def info(
    store: Annotated[str, typer.Argument(help="The store, or its URL.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a store holds: recipe, volumes, shapes, size, the last run."""
    from featlift.store import open_store
    from featlift.store.contents import damaged_cases, run_records

    opened = open_store(store)
    damaged = damaged_cases(store)
    cases = []
    for case_id in opened:
        try:
            cases.append(_case(opened[case_id]))
        except StoreError as error:
            damaged.setdefault(case_id, [str(error)])
    runs = [record for record in run_records(store).values() if record is not None]
    summary: dict[str, Any] = {
        "store": opened.name,
        "format": opened.attributes["format"],
        "features_version": opened.attributes["features_version"],
        "recipe_sha256": opened.attributes["recipe_sha256"],
        "recipe": opened.recipe,
        "bytes": sum(case["bytes"] for case in cases),
        "damaged": damaged,
        "last_run": runs[-1] if runs else None,
        "cases": cases,
    }
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print(opened.path, summary)


def _case(case: Any) -> dict[str, Any]:
    saved = case.saved
    dense = {index: list(layer.dense.shape) for index, layer in case.layers.items()} if "dense" in saved else None
    tokens = case.tokens if "tokens" in saved else None
    parts = case.embedding_parts if "embedding" in saved else {}
    return {
        "id": case.id,
        "scan": case.attributes["shape"],
        "spacing": case.attributes["spacing"],
        "dense": dense,
        "valid_cells": list(case.valid_cells),
        "tokens": None if tokens is None else list(tokens.shape),
        "embedding": {name: list(part) for name, part in parts.items()},
        "bytes": sum(key["bytes"] for key in case.attributes["keys"].values()),
    }


def _print(store: object, summary: dict[str, Any]) -> None:
    recipe = summary["recipe"]
    typer.echo(f"{store}: {number_of(len(summary['cases']), 'volume')}, {human_bytes(summary['bytes'])}")
    for name, value in recipe.items():
        if value not in (None, [], {}):
            typer.echo(f"  {name:<15} {value}")
    for case in summary["cases"][:20]:
        spacing = "spacing unknown" if case["spacing"] is None else f"{_times(case['spacing'])} mm"
        typer.echo(f"  {case['id']}: scan {_times(case['scan'])} ({spacing}){_features(case)}")
    if len(summary["cases"]) > 20:
        typer.echo(f"  and {len(summary['cases']) - 20} more (--json lists them)")
    if summary["last_run"]:
        volumes = summary["last_run"].get("volumes", {})
        counts = ", ".join(f"{count} {status}" for status, count in volumes.items())
        typer.echo(f"  last run        {summary['last_run'].get('started', '')[:19]}: {counts}")
    if summary["damaged"]:
        typer.echo(f"  damaged         {', '.join(summary['damaged'])}: run extract again to repair")


def _features(case: dict[str, Any]) -> str:
    if case["dense"] is None:
        return ""
    deepest = list(case["dense"].values())[-1]
    padding = "" if deepest[1:] == case["valid_cells"] else f", of which {_times(case['valid_cells'])} cells are scan"
    return f", features {_times(deepest)}{padding}"


def _times(values: list[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)

"""`featlift retrieve`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli import choices
from featlift.cli.options import numbers
from featlift.errors import OptionError

if TYPE_CHECKING:
    from featlift.evaluation import Place
    from featlift.store import Store


def retrieve(
    store: Annotated[str, typer.Argument(help="The store, or its URL, or a Parquet or CSV of id and vector.")],
    case: Annotated[str, typer.Option(help="The case to look for, or in which the place is.")],
    voxel: Annotated[
        str | None, typer.Option(help="A place: column,row,slice (x,y,z) of the stored scan, from 0.")
    ] = None,
    point: Annotated[str | None, typer.Option(help="A place: x,y,z in LPS millimetres.")] = None,
    given: Annotated[
        str | None,
        choices.one_of(choices.INPUTS, "Of whole cases: part of the embedding. Default: cls if any.", "--input"),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Of a place: absolute index. Default: the deepest.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the table to this file, too.")] = None,
) -> None:
    """Find the cases most like a case, or in every other case the place most like a place."""
    from featlift.cli.results import opened_embeddings

    opened = opened_embeddings(store)
    failed: list[Place] = []
    if voxel is None and point is None:
        if layer is not None:
            raise OptionError("--layer is of places; embeddings of whole cases are of the deepest layer")
        rows = _cases(opened, case, given, top)
    else:
        if given is not None:
            raise OptionError("--input is of whole cases; places are compared by their dense features")
        rows, failed = _places(opened, case, voxel, point, layer, top)
    _print(rows)
    if csv_file is not None:
        from featlift.atomic_io import as_output_error

        with as_output_error(csv_file), csv_file.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    for place in failed:
        typer.echo(f"featlift: {place.failure}", err=True)
    if failed:
        raise typer.Exit(1)


def _cases(store: Store, case: str, given: str | None, top: int) -> list[list[str]]:
    from featlift.evaluation import nearest_cases

    found = nearest_cases(store, case, given, top)
    return [["case", "similarity"], *([case_id, f"{similarity:.4f}"] for case_id, similarity in found)]


def _places(
    store: Store, case: str, voxel: str | None, point: str | None, layer: int | None, top: int
) -> tuple[list[list[str]], list[Place]]:
    from tqdm import tqdm

    from featlift.evaluation import nearest_places, place_at

    own = place_at(
        store, case, numbers(voxel, float, "--voxel") or None, numbers(point, float, "--point") or None, layer
    )
    found = list(tqdm(nearest_places(store, own, layer), total=len(store) - 1, unit="case", disable=None))
    ranked = sorted((place for place in found if not place.failure), key=lambda place: -place.similarity)
    header = ["case", "similarity", "voxel x", "y", "z", "LPS mm x", "y", "z"]
    return [header, *map(_row, [own, *ranked[:top]])], [place for place in found if place.failure]


def _row(place: Place) -> list[str]:
    point = ["-"] * 3 if place.point is None else [f"{value:.1f}" for value in place.point]
    return [place.id, f"{place.similarity:.4f}", *map(str, place.voxel or ()), *point]


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

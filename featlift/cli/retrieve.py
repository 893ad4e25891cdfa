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
    ras: Annotated[bool, typer.Option("--ras", help="Points are in RAS: x and y have the other sign.")] = False,
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
        rows, failed = _places(opened, case, voxel, point, ras, layer, top)
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
    store: Store, case: str, voxel: str | None, point: str | None, ras: bool, layer: int | None, top: int
) -> tuple[list[list[str]], list[Place]]:
    from tqdm import tqdm

    from featlift.evaluation import nearest_places, place_at

    at = numbers(point, float, "--point") or None
    own = place_at(store, case, numbers(voxel, float, "--voxel") or None, _turned(at, ras), layer)
    found = list(tqdm(nearest_places(store, own, layer), total=len(store) - 1, unit="case", disable=None))
    ranked = sorted((place for place in found if not place.failure), key=lambda place: -place.similarity)
    header = ["case", "similarity", "voxel x", "y", "z", f"{'RAS' if ras else 'LPS'} mm x", "y", "z"]
    rows = [_row(place, ras) for place in (own, *ranked[:top])]
    return [header, *rows], [place for place in found if place.failure]


def _turned(point: Sequence[float] | None, ras: bool) -> tuple[float, ...] | None:
    """A point between LPS and RAS."""
    if point is None or not ras:
        return None if point is None else tuple(point)
    return tuple(sign * value for sign, value in zip((-1, -1, 1), point, strict=False))


def _row(place: Place, ras: bool) -> list[str]:
    at = _turned(place.point, ras)
    point = ["-"] * 3 if at is None else [f"{value:.1f}" for value in at]
    return [place.id, f"{place.similarity:.4f}", *map(str, place.voxel or ()), *point]


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

"""`featlift export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli import choices
from featlift.cli.options import numbers
from featlift.cli.results import print_failures
from featlift.errors import OptionError

if TYPE_CHECKING:
    from featlift.store import Store


def export(
    store: Annotated[str, typer.Argument(help="The store, or its URL.")],
    to: Annotated[str, choices.one_of(choices.EXPORTS, "The format; parquet takes embeddings and labels.")],
    case: Annotated[list[str] | None, typer.Option(help="Only this case; repeatable.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder of its own. Default: <store>-<format>.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Channels as they are, as in 0,3,7, instead of colours; of npy: only these.")
    ] = None,
    colours: Annotated[
        Path | None, typer.Option(help="A file of `featlift pca`. Default: colours fitted on the store.")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Absolute index. Default: the deepest.")] = None,
    on: Annotated[
        str, choices.one_of(choices.GRIDS, "Grid of nifti, nrrd and ome-zarr; the scan's is as the store keeps it.")
    ] = "scan",
) -> None:
    """Write features for other programs: colours for 3D Slicer, ITK-SNAP and napari, arrays for NumPy, embeddings.

    A file for each case, in a folder that an interrupted export goes on with; with --to parquet one file for all.
    """
    from featlift.store import open_store

    opened = open_store(store)
    folder = output or Path(f"{opened.name.removesuffix('.zarr')}-{to}")
    if to == "parquet":
        if channels or colours or layer is not None or on != "scan":
            raise OptionError("--to parquet holds embeddings and labels: it takes --case and -o only")
        _embeddings(opened, folder, case or [])
        return
    from tqdm import tqdm

    from featlift.exporting import ExportSpec, export
    from featlift.pictures.colours import Colours

    spec = ExportSpec(to, numbers(channels, int, "--channels"), layer, on)  # type: ignore[arg-type]
    basis = None if colours is None else Colours.read(colours)
    ids = list(dict.fromkeys(case or opened))
    done = export(opened, folder, spec, basis, ids)
    found = list(tqdm(done, total=len(ids), unit="case", disable=None, desc=opened.name))
    failed = {each.id: each.failure for each in found if each.failure}
    kept = sum(each.was_there for each in found)
    typer.echo(f"{folder}: {len(found) - kept - len(failed)} written, {kept} already there, {len(failed)} failed")
    print_failures([(opened.name, *failure) for failure in failed.items()])


def _embeddings(store: Store, folder: Path, cases: list[str]) -> None:
    from featlift.exporting import write_parquet

    path = folder / "embeddings.parquet"
    damaged = write_parquet(store, path, cases)
    typer.echo(path)
    print_failures([(store.name, case_id, "damaged; `featlift verify` says where") for case_id in damaged])

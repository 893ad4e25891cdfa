"""`featlift export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli.options import numbers
from featlift.errors import OptionError

if TYPE_CHECKING:
    from featlift.exporting import Wanted
    from featlift.pictures.colours import Colours
    from featlift.store import Store


def export(
    store: Annotated[str, typer.Argument(help="The store, or its URL.")],
    to: Annotated[str, typer.Option(help="nifti, nrrd, ome-zarr, npy or parquet.")],
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
        str, typer.Option(help="Grid of nifti, nrrd and ome-zarr: scan (as the store keeps it) or cells.")
    ] = "scan",
) -> None:
    """Write features for other programs: colours for 3D Slicer, ITK-SNAP or napari, arrays for NumPy, embeddings as a table.

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
    from featlift.exporting import Wanted

    wanted = Wanted(to, numbers(channels, int, "--channels"), layer, on)  # type: ignore[arg-type]
    if colours is not None and not wanted.is_coloured:
        raise OptionError("--colours: npy and --channels hold features as they are, without colours")
    basis = _colours(opened, folder, wanted, colours) if wanted.is_coloured else None
    _cases(opened, folder, wanted, basis, case or [])


def _embeddings(store: Store, folder: Path, cases: list[str]) -> None:
    from featlift.exporting import write_parquet

    path = folder / "embeddings.parquet"
    damaged = write_parquet(store, path, cases)
    typer.echo(path)
    _tell(dict.fromkeys(damaged, "damaged; `featlift verify` says where"))


def _colours(store: Store, folder: Path, wanted: Wanted, path: Path | None) -> Colours:
    """Those given, those that the folder was begun with, or new ones."""
    from featlift.exporting import colours_in
    from featlift.pictures.colours import Colours
    from featlift.pictures.fitting import fit_colours

    if path is not None:
        return Colours.read(path)
    return colours_in(folder) or fit_colours([store], layer=wanted.layer)


def _cases(store: Store, folder: Path, wanted: Wanted, colours: Colours | None, cases: list[str]) -> None:
    from tqdm import tqdm

    from featlift.exporting import export

    done = export(store, folder, wanted, colours, cases)
    total = len(cases) or len(store)
    found = list(tqdm(done, total=total, unit="case", disable=None, desc=store.name))
    failed = {each.id: each.failure for each in found if each.failure}
    kept = sum(each.was_there for each in found)
    typer.echo(f"{folder}: {len(found) - kept - len(failed)} written, {kept} already there, {len(failed)} failed")
    _tell(failed)


def _tell(failed: dict[str, str]) -> None:
    """As `extract` does: a table at the end, exit code 1."""
    if not failed:
        return
    width = max(map(len, failed))
    typer.echo(f"\n{'case':<{width}}  reason", err=True)
    for case_id, reason in failed.items():
        typer.echo(f"{case_id:<{width}}  {reason}", err=True)
    raise typer.Exit(1)

"""`featlift report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlift.cli.options import LabelNames
from featlift.counting import number_of
from featlift.sizes import decimal_bytes

_STORES = "The store, or its URL; several of one cohort, as its modes; files of vectors beside them (Parquet, CSV)."


def report(
    stores: Annotated[list[str], typer.Argument(help=_STORES)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("report.html"),
    results: Annotated[Path | None, typer.Option(help="A folder of results, as `featlift knn -o` writes.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A CSV with id and further columns, beside those of the index.")
    ] = None,
    label_names: LabelNames = None,
    label: Annotated[str | None, typer.Option(help="The column that colours the map at first.")] = None,
    pictures: Annotated[
        int, typer.Option(min=1, help="Of how many cases pictures are made; of more, an evenly spaced sample.")
    ] = 400,
) -> None:
    """Show a whole cohort on one page: pictures, a map of the embeddings, outliers, geometry, failures, results.

    The page is one file that works offline.
    """
    from tqdm import tqdm

    from featlift.cli.results import opened
    from featlift.pictures.report import gather, write_report
    from featlift.volumes.label_names import label_names as read_names

    names = read_names(label_names) if label_names else {}
    with tqdm(unit="case", disable=None, desc="pictures") as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        cohort = gather(opened(stores, vectors=True), labels, results, pictures, tell, names)
    write_report(cohort, output, label)
    typer.echo(
        f"{output}: {number_of(len(cohort.ids), 'case')}, {len(cohort.portraits)} with pictures, {_size(output)}"
    )


def _size(path: Path) -> str:
    return decimal_bytes(path.stat().st_size)

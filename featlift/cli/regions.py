"""`featlift regions`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from featlift.cli.options import LabelNames, MaskPattern, MaskPlace


def regions(
    store: Annotated[str, typer.Argument(help="The store, or its URL.")],
    masks: MaskPlace,
    mask_pattern: MaskPattern = None,
    label_names: LabelNames = None,
    layer: Annotated[int | None, typer.Option(help="Absolute index. Default: the deepest.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file.")] = Path("regions.parquet"),
) -> None:
    """Embed the regions of masks: a vector for every organ, lesion or area of every case.

    Writes a row a region: mean, trimmed mean and standard deviation of its features, volume, centroid, box, and what
    the index says of its case. `knn`, `probe` and `retrieve` take the file.
    """
    from tqdm import tqdm

    from featlift.atomic_io import check_writable
    from featlift.cli.results import masks_of, print_failures
    from featlift.counting import number_of
    from featlift.evaluation.region_table import write_regions
    from featlift.evaluation.regions import regions as regions_of_store
    from featlift.store import open_store
    from featlift.volumes.label_names import label_names_in

    opened = open_store(store)
    check_writable(output.parent)
    pairs, names = masks_of(opened, list(opened), masks, mask_pattern, label_names)
    found, failed = [], []
    for case_id, of_case, reason in tqdm(
        regions_of_store(opened, pairs, layer), total=len(pairs), unit="case", disable=None
    ):
        own = names if label_names else label_names_in(pairs[case_id])
        found += [replace(region, name=own.get(region.label, "")) for region in of_case]
        failed += [(opened.name, case_id, reason)] if reason else []
    if found:
        write_regions(output, opened, found, layer)
        small = sum(region.smaller_than_a_cell for region in found)
        told = f", {small} of them smaller than a cell" if small else ""
        cases = number_of(len(pairs) - len(failed), "case")
        typer.echo(f"{output}: {number_of(len(found), 'region')} of {cases}{told}")
    print_failures(failed)

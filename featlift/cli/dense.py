"""`featlift probe --dense`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from featlift.errors import OptionError


def dense(
    stores: Sequence[str],
    masks: str | None,
    mask_pattern: str | None,
    label_names: str | None,
    labels: Path | None,
    weighting: str,
    cells: int,
    layer: int | None,
    on: str,
    features: str,
    seeds: tuple[int, ...],
    save_maps: Path | None,
    output: Path,
    seed: int,
    resamples: int,
) -> None:
    """Train a linear classifier of feature cells on the training cases, and compare its segmentations with masks."""
    from featlift.cli.results import bars, found_masks, intervals, opened, print_missing_distances, some, written
    from featlift.evaluation import DenseProtocol, dense_probe, dense_result, read_splits, table

    if masks is None:
        raise OptionError("--dense compares with masks: give --masks")
    how = DenseProtocol(weighting, cells, layer=layer, on=on, features=features)  # type: ignore[arg-type]
    results = []
    for store in opened(stores):
        pairs, names = found_masks(store, masks, mask_pattern, label_names)
        splits = read_splits(store, labels)
        name = store.name
        result_name = dense_result(store, how, [], splits, seeds).name
        scores = dense_probe(
            store, pairs, splits, how, seeds, None if save_maps is None else save_maps / result_name, bars(name)
        )
        result = dense_result(store, how, scores, splits, seeds, seed, resamples, names)
        if result.left_out:
            count = f"{len(result.left_out)} of {len(store)} cases"
            typer.echo(f"featlift: {name}: {count} are of no split to train or test: {some(result.left_out)}", err=True)
        results += written([result], output)
    spread = f"mean ± standard deviation of {len(seeds)} seeds, " if len(seeds) > 1 else ""
    typer.echo(
        f"Dense probe, logistic regression of cells, every one of the {weighting} counting alike; {spread}"
        f"{intervals(results)}"
    )
    typer.echo(table(results))
    for result in results:
        print_missing_distances(result.store, result)

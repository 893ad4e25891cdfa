"""`featlift featdice`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli import choices
from featlift.cli.options import LabelNames, MaskPattern, MaskPlace
from featlift.cli.results import found_masks, print_failures, some
from featlift.errors import OptionError

_FAR_BELOW = 0.75  # of the best-threshold Dice

if TYPE_CHECKING:
    from featlift.evaluation import Protocol, Result
    from featlift.store import Store


def featdice(
    stores: Annotated[list[str], typer.Argument(help="The store, or its URL; several are compared in one table.")],
    masks: MaskPlace,
    mask_pattern: MaskPattern = None,
    label_names: LabelNames = None,
    protocol: Annotated[
        str | None,
        choices.one_of(choices.FEATDICE_PROTOCOLS, "Default: centre for a store of regions (extract --roi)."),
    ] = None,
    centre: Annotated[
        str, choices.one_of(choices.CENTRES, "Of centre: the middle of the grid, or of the lesion.")
    ] = "grid",
    threshold: Annotated[float, typer.Option(help="Of centre: above it is lesion.")] = 0.9,
    nearest: Annotated[
        str,
        choices.one_of(
            choices.NEAREST, "Of prototype: where a cell's label is read: its centre, or corner as released."
        ),
    ] = "centre",
    layer: Annotated[int | None, typer.Option(help="Absolute index. Default: the deepest.")] = None,
    uncentred: Annotated[
        bool, typer.Option("--uncentred", help="Of stores with --reduce pca: give features their mean back.")
    ] = False,
    on: Annotated[str, choices.one_of(choices.ON, "Score on the voxels of the stored scan, or of the mask.")] = "scan",
    features: Annotated[str, typer.Option(help=choices.SOURCES_HELP)] = "stored",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("results"),
    save_maps: Annotated[Path | None, typer.Option(help="Folder for maps and predictions as NIfTI.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap.")] = 10_000,
) -> None:
    """Measure how well frozen features alone delineate what masks say: Dice without training.

    Writes a result file (JSON, and a CSV with a row for each case) for each store.
    """
    from featlift.cli.results import intervals, opened
    from featlift.evaluation import Protocol, table, write_result

    found = opened(stores)
    name = protocol or _default_protocol(found)
    how = Protocol(name, centre, threshold, nearest, layer, uncentred, on, features)  # type: ignore[arg-type]
    if name == "centre" and not all(store.recipe.get("roi_mm") for store in found):
        typer.echo("featlift: not regions around lesions (extract --roi): their centres are those of scans", err=True)
    results = []
    for store in found:
        result = _result(store, masks, mask_pattern, how, save_maps, seed, resamples, label_names)
        results.append(result)
        if result.cases:
            typer.echo(f"{store.path}: {write_result(result, output)}", err=True)
    typer.echo(f"FeatDice, protocol {how.label}; {intervals(results)}")
    typer.echo(table(results))
    _tell_what_to_try(results, how)
    print_failures([(result.store, *failure) for result in results for failure in result.failed.items()])


def _default_protocol(stores: list[Store]) -> str:
    found = {"centre" if store.recipe.get("roi_mm") else "prototype" for store in stores}
    if len(found) > 1:
        raise OptionError("some of the stores are of regions and some are not: give --protocol centre or prototype")
    return found.pop()


def _tell_what_to_try(results: Sequence[Result], protocol: Protocol) -> None:
    """Where a threshold would find far more than the prediction, which options decide the prediction."""
    far = [result for result in results if _is_far_below(result)]
    if not far:
        return
    if protocol.name == "centre":
        lesion = "" if protocol.centre == "lesion" else ", --centre lesion another prototype"
        advice = f"--threshold (here {protocol.threshold:g}) decides what is predicted{lesion}"
    elif protocol.nearest == "corner":
        advice = "--nearest centre reads labels where cells lie"
    elif not protocol.uncentred and all(result.recipe.get("basis_sha256") for result in far):
        advice = "--uncentred gives reduced features their mean back"
    else:
        advice = "the background's prototype wins or loses too often: look at another --layer, or at `probe --dense`"
    names = ", ".join(result.store for result in far)
    typer.echo(f"featlift: {names}: Dice is far below best-threshold Dice: {advice}", err=True)


def _is_far_below(result: Result) -> bool:
    found, bound = result.measures["dice"].mean, result.measures["best_dice"].mean
    return found is not None and bound is not None and found < _FAR_BELOW * bound


def _result(
    store: Store,
    masks: str,
    pattern: str | None,
    protocol: Protocol,
    save_maps: Path | None,
    seed: int,
    resamples: int,
    label_names: str | None,
) -> Result:
    from tqdm import tqdm

    from featlift.evaluation import featdice, featdice_result
    from featlift.remote import parse_location

    pairs, names = found_masks(store, masks, pattern, label_names)
    without = [case_id for case_id in store if case_id not in pairs]
    if not pairs:
        raise OptionError(
            f"--masks {parse_location(masks)}: none for any of the {len(store)} cases of {store.path}, {some(without)}"
        )
    if without:
        typer.echo(
            f"featlift: {store.path}: {len(without)} of {len(store)} cases have no mask: {some(without)}", err=True
        )
    name = store.name
    maps = None if save_maps is None else save_maps / f"{name.removesuffix('.zarr')}-{protocol.label}"
    scores = featdice(store, pairs, protocol, maps)
    cases = list(tqdm(scores, total=len(pairs), unit="case", disable=None, desc=name))
    return featdice_result(name, store.recipe, protocol, cases, without, seed, resamples, names)

"""`featlift register run --pairs` and `featlift register score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlift.cli.options import numbers
from featlift.counting import number_of
from featlift.errors import OptionError

if TYPE_CHECKING:
    from featlift.config import ExtractConfig
    from featlift.registration import PairSettings


def register_each(
    pairs: Path,
    fixed: str,
    moving: str | None,
    output: Path,
    settings: PairSettings,
    config: ExtractConfig,
    images: str | None,
    split: str | None,
    inverse: bool,
    network: Path | None,
) -> None:
    """Register the pairs of a CSV, and say what became of them; exit code 1 if some could not be."""
    from featlift.cli.results import bars, print_failures
    from featlift.registration.many import register_pairs

    told = bars("register")
    try:
        found = register_pairs(
            pairs,
            fixed,
            output,
            settings,
            config,
            moving=moving,
            images=images,
            split=split,
            inverse=inverse,
            network=network,
            progress=told,
            notify=lambda line: typer.echo(line, err=True),
        )
    except KeyboardInterrupt:
        typer.echo("featlift: stopped; the same command goes on where this one was", err=True)
        raise
    if not found.warped:
        typer.echo("featlift: no warped scans without the files that the store was made from: --images DIR", err=True)
    before = f", {len(found.skipped):,} done before" if found.skipped else ""
    failed = f", {len(found.failed):,} failed" if found.failed else ""
    typer.echo(f"{output}: {number_of(len(found.done), 'pair')} registered{before}{failed}")
    print_failures([(output.name, pair_id, reason) for pair_id, reason in found.failed.items()])


def score(
    folder: Annotated[Path, typer.Argument(help="What `register run` wrote: of many pairs, or of one.")],
    masks: Annotated[
        str | None, typer.Option(help="A folder of masks, named as the cases, or a CSV with id,path.")
    ] = None,
    mask_pattern: Annotated[
        str | None, typer.Option(help="Files of the folder that are masks, such as *_label.nii.gz.")
    ] = None,
    moving_masks: Annotated[
        str | None, typer.Option(help="Those of the moving scans. Default: where those of the fixed ones are.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Only these, as in 1,2. Default: those of both masks.")] = None,
    landmarks: Annotated[
        Path | None, typer.Option(help="A folder of CSVs named as the cases, id,x,y,z in LPS millimetres.")
    ] = None,
    ras: Annotated[bool, typer.Option("--ras", help="Landmarks are in RAS: x and y have the other sign.")] = False,
    unregistered: Annotated[
        bool, typer.Option("--unregistered", help="A second result, of the scans as they lay before.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("results"),
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap.")] = 10_000,
) -> None:
    """Score registered pairs by their masks, landmarks and fields: Dice, HD95, ASD, TRE, SDlogJ, folds, seconds."""
    from featlift.cli.results import bars, intervals, some, written
    from featlift.evaluation import table
    from featlift.registration.score_result import registration_result
    from featlift.registration.scoring import score_pairs

    if masks is None and (mask_pattern or moving_masks):
        raise OptionError("--mask-pattern and --moving-masks: say with --masks where the masks are")
    wanted = numbers(labels, int, "--labels")
    found = score_pairs(
        folder,
        masks,
        mask_pattern,
        landmarks,
        wanted,
        moving_masks=moving_masks,
        ras=ras,
        unregistered=unregistered,
        progress=bars("register"),
    )
    for complaint, ids in (("without masks or landmarks", found.left_out), ("not done", found.unfinished)):
        if ids:
            typer.echo(f"featlift: {folder}: {number_of(len(ids), 'pair')} {complaint}: {some(ids)}", err=True)
    made = ([(True, found.before)] if unregistered else []) + [(False, found.after)]
    results = [registration_result(found, scores, before, seed, resamples) for before, scores in made]
    written(results, output)
    typer.echo(f"Registrations; {intervals(results)}; folds are shares of the voxels")
    typer.echo(table(results))

"""`featlift check`."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlift.cli.configured import configured
from featlift.cli.options import human_seconds, times
from featlift.config import ExtractConfig
from featlift.counting import number_of
from featlift.errors import FeatliftError
from featlift.sizes import decimal_bytes

if TYPE_CHECKING:
    from featlift.lifting import VolumeEncoder
    from featlift.volumes import Preparation, Reading, Scan, Skipped
    from featlift.volumes.findings import Finding
    from featlift.volumes.survey import Surveyed

_LOOK = "How closely"
_FINDINGS, _IDS = 12, 3  # listed; --json and --csv have all
_OF_THE_RUN = (
    "memory", "offload", "compile", "overwrite", "yes", "prefetch", "shard", "devices", "engine", "actors",
    "confirm_above",
)  # fmt: skip
_MOST_WORKERS = 4  # each holds a volume or two, if voxels are read


@configured(leave_out=_OF_THE_RUN)
def check(
    inputs: Annotated[list[str], typer.Argument(help="Scans, folders, manifests: what extract would be given.")],
    config: ExtractConfig,
    sample: Annotated[
        int, typer.Option(min=0, help="Read the voxels of N scans, evenly spread.", rich_help_panel=_LOOK)
    ] = 0,
    voxels: Annotated[
        bool, typer.Option("--voxels", help="Read the voxels of all scans.", rich_help_panel=_LOOK)
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Lift the scan of median size, for the time.", rich_help_panel=_LOOK)
    ] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write a CSV with a row for each scan.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for what extract would trip over, before it costs hours: unreadable scans, odd geometry, intensities, masks.

    Headers only, unless --sample or --voxels asks for more. Exit code 1 if some scans would fail.
    """
    from featlift.diagnosis.weights import missing_weights
    from featlift.processes import cores
    from featlift.remote import Remote
    from featlift.sample import evenly_spaced
    from featlift.store.forecast import FeatureSizes, volume_bytes
    from featlift.store.index import check_label_names
    from featlift.store.output_spec import OutputSpec
    from featlift.volumes import Preparation, Reading, Selection, find_scans
    from featlift.volumes.findings import Finding, SurveyPlan, findings, totals

    config.check()
    preparation, reading = Preparation.of(config.preparation), Reading.of(config.reading)
    selection = Selection.of(config.selection)
    refused: list[Skipped] = []
    found = find_scans(inputs, selection, config.selection.limit, refused, refused)
    check_label_names({name for scan in found.scans for name in scan.labels}, "the manifest")
    keeping = OutputSpec.of(config.output)
    if keeping.reduction is not None:  # a basis is of the real weights; of it only how many channels it keeps matters
        keeping = replace(keeping, reduction=replace(keeping.reduction, basis=None))
    lifted, sizes = None, FeatureSizes.known(config.network, config.lifting)
    if measure or sizes is None:
        lifted = _lifted(config, measure)
        sizes = FeatureSizes.of(lifted)
        preparation = _own_preparation(config, lifted)
    keeping.check_layers(config.network.model, sizes.token_names, sizes.layers)
    closely = found.scans if voxels else evenly_spaced(found.scans, sample)
    if behind_url := sum(any(isinstance(source.path, Remote) for source in scan.sources) for scan in found.scans):
        typer.echo(f"featlift: {behind_url} of {len(found.scans)} scans are behind URLs: fetched whole", err=True)
    workers = config.running.workers or min(_MOST_WORKERS, cores())
    rows = _survey(found.scans, preparation, reading, {scan.id for scan in closely}, workers)
    usable = [row for row in rows if row.lifted_shape and not row.failure]
    stored = (volume_bytes(row.lifted_shape, row.channels, sizes, keeping) for row in usable if row.lifted_shape)
    report: dict[str, Any] = {
        "totals": totals(rows),
        "store_bytes": sum(size for arrays in stored for _, size in arrays),
        "time": None,
    }
    if measure and lifted is not None and usable:
        from featlift.extraction.measuring import measure_lifting

        try:
            report["time"] = asdict(measure_lifting(lifted, found.scans, usable, preparation, reading))
        except FeatliftError as error:
            report["time"] = {"failure": str(error)}
    has_masks = bool(selection.mask_pattern or selection.masks)
    plan = SurveyPlan(
        preparation,
        config.lifting.mode,
        sizes.size_multiple[-1],
        config.lifting.depth_window,
        getattr(lifted, "tile", None) if config.lifting.mode != "native" else None,
        has_masks,
    )
    missing = missing_weights(config.network.model) if config.network.weights is None else None
    besides = (
        [Finding("WARN", f"no weights here for {missing.what}", f"{missing.fix}; or --weights FILE")] if missing else []
    )
    judged = findings(found, refused, rows, plan, besides)
    if csv_file:
        _write_csv(csv_file, rows)
    if as_json:
        report |= {"findings": [asdict(each) for each in judged], "skipped": [asdict(each) for each in found.skipped]}
        typer.echo(json.dumps({**report, "cases": [asdict(row) for row in rows]}, indent=2))
    else:
        _print(judged, found.skipped, report)
    if any(finding.level == "FAIL" for finding in judged):
        raise typer.Exit(1)


def _lifted(config: ExtractConfig, measure: bool) -> VolumeEncoder:
    """The network with random weights: of any weights the sizes are the same, and so is the time."""
    from featlift.extraction import encoder_of  # torch and timm take seconds: not before what needs them

    network = replace(config.network, weights="random:0")
    if not measure:
        network = replace(network, device="cpu", precision="fp32")
    return encoder_of(network, config.lifting)


def _own_preparation(config: ExtractConfig, encoder: VolumeEncoder) -> Preparation:
    from featlift.extraction import preparation_of

    return preparation_of(config.preparation, encoder)


def _survey(
    scans: Sequence[Scan], preparation: Preparation, reading: Reading, closely: set[str], workers: int
) -> list[Surveyed]:
    from tqdm import tqdm

    from featlift.volumes.survey import survey

    rows = survey(scans, preparation, reading, closely, workers)
    return list(tqdm(rows, total=len(scans), unit="scan", disable=None))


def _write_csv(path: Path, rows: Sequence[Surveyed]) -> None:
    """A row for each scan, what has three values in three columns."""
    from featlift.atomic_io import as_output_error

    flat = []
    for row in rows:
        columns: dict[str, object] = {}
        for name, value in asdict(row).items():
            if name in ("shape", "spacing", "lifted_shape", "lifted_spacing"):
                columns |= {f"{name}_{axis}": n for axis, n in zip("dhw", value or (None,) * 3, strict=True)}
            else:
                columns[name] = value
        flat.append(columns)
    with as_output_error(path), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, flat[0])
        writer.writeheader()
        writer.writerows(flat)


def _print(judged: Sequence[Finding], skipped: Sequence[Skipped], report: dict[str, Any]) -> None:
    """Findings first, each with its fix; then what the cohort consists of, and what was not looked at."""
    for finding in judged[:_FINDINGS]:
        typer.echo(f"{finding.level}  {finding.what}")
        if finding.ids:
            more = f" and {len(finding.ids) - _IDS} more" if len(finding.ids) > _IDS else ""
            typer.echo(f"      {', '.join(finding.ids[:_IDS])}{more}")
        if finding.fix:
            typer.echo(f"      fix: {finding.fix}")
    if len(judged) > _FINDINGS:
        typer.echo(f"      and {len(judged) - _FINDINGS} findings more (--json lists them)")
    for reason, count in Counter(each.reason for each in skipped).most_common(_IDS):
        typer.echo(f"SKIP  {count} no scan: {reason}")
    totals = report["totals"]
    usable = totals["scans"] - totals["would_fail"]
    typer.echo(f"{number_of(totals['scans'], 'scan')}, {usable} of them usable as far as was looked")
    typer.echo(f"  {'looked at':<13} {_looked_at(totals)}")
    for name in ("formats", "modalities", "orientations"):
        typer.echo(f"  {name:<13} {', '.join(f'{what} {count}' for what, count in totals[name].items()) or '-'}")
    for name, unit in (("shape", "voxels"), ("spacing", "mm"), ("lifted_shape", "voxels")):
        if found := totals[name]:
            low, middle, high = (times(found[which]) for which in ("min", "median", "max"))
            typer.echo(f"  {name.replace('_', ' '):<13} {low} to {high}, median {middle} {unit} (D x H x W)")
    if totals["values"]:
        typer.echo(f"  {'values':<13} {totals['values'][0]:g} to {totals['values'][1]:g} where voxels were read")
    typer.echo(f"  {'store':<13} about {decimal_bytes(report['store_bytes'])}")
    typer.echo(f"  {'time':<13} {_time(report['time'])}")


def _looked_at(totals: dict[str, Any]) -> str:
    if totals["voxels_read"] == totals["scans"]:
        return "headers and voxels of all"
    unseen = "damaged data, NaN, constant volumes and intensity units show in no header (--sample N, --voxels)"
    return f"headers of all, voxels of {totals['voxels_read']}; {unseen}"


def _time(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "not estimated; --measure lifts the scan of median size"
    if "failure" in measured:
        return f"not measured: {measured['failure']}"
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in measured["seconds"].items())
    return (
        f"about {human_seconds(measured['all_seconds'])} one after the other, by {measured['id']} ({stages}) and voxels"
    )

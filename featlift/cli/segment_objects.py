"""Heads of affinities on the command line: their options, and what they find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from featlift.cli.options import numbers
from featlift.errors import OptionError

if TYPE_CHECKING:
    from featlift.segmentation import AffinitySettings, Config, Finding, Trained
    from featlift.store import Store


def affinity_settings(
    task: str, offsets: str | None, no_widen: bool, ignore: str | None, agglomeration: str | None
) -> AffinitySettings | None:
    """What `segment train` was asked to learn in the place of labels."""
    given = {"--offsets": offsets, "--no-widen": no_widen, "--ignore": ignore, "--agglomeration": agglomeration}
    if task == "labels":
        _refuse(given)
        return None
    from featlift.segmentation import AffinitySettings

    ignored = numbers(ignore, int, "--ignore")
    return AffinitySettings(offsets or "neighbours", not no_widen, ignored, agglomeration or "mean")  # type: ignore[arg-type]


def finding(
    config: Config,
    agglomeration: str | None,
    threshold: float | None,
    format: str | None,  # noqa: A002 - the word of the command line
    resolution: str | None,
    grid: str,
    like: Path | None,
) -> Finding | None:
    """How `segment predict` finds and writes objects; None with a head of labels."""
    if config.affinities is None:
        given = {"--agglomeration": agglomeration, "--format": format, "--resolution": resolution}
        _refuse(given | {"--threshold": threshold is not None})
        return None
    if like is not None:
        raise OptionError("--like is of labels: objects are on the voxels of the case's own file, or --grid stored")
    from featlift.segmentation import Finding

    nanometres = numbers(resolution, float, "--resolution")
    return Finding(agglomeration, threshold, format or "hdf5", nanometres, grid)  # type: ignore[arg-type]


def objects_written(
    store: Store, trained: Trained, output: Path, ids: list[str], how: Finding, device: str, precision: str
) -> list[Path]:
    """Find the objects of cases; say which of them the head had seen."""
    from featlift.backbones.precision import resolve_device
    from featlift.cli.results import bars, some
    from featlift.segmentation import predict_objects

    asked = ids or list(store)
    if seen := [case_id for case_id in asked if trained.saw(case_id)]:
        count = f"{len(seen)} of {len(asked)} cases"
        typer.echo(f"featlift: {count} were seen in training, so their scores say little: {some(seen)}", err=True)
    return predict_objects(
        store,
        trained,
        output,
        ids,
        how,
        resolve_device(device),
        precision,  # type: ignore[arg-type]
        bars(store.name),
    )


def _refuse(given: dict[str, Any]) -> None:
    """Options of affinities beside a head of labels."""
    if named := [option for option, value in given.items() if value]:
        raise OptionError(f"{named[0]} is of affinities: train a head with --task affinities")

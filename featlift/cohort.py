"""`extract_cohort`: what `featlift extract` does, from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featlift.config import ExtractConfig
from featlift.counting import number_of
from featlift.remote import Remote
from featlift.sizes import human_bytes

if TYPE_CHECKING:
    from featlift.extraction import Extraction, Job, Run
    from featlift.extraction.outcome import Outcome
    from featlift.store.forecast import Forecast
    from featlift.volumes import DiscoveredScans

#: Told of each scan that is through, how many are, and how many there are; at the start of None and 0.
CohortProgress = Callable[["Outcome | None", int, int], object]

_LISTED = 10


@dataclass(frozen=True)
class Extracted:
    """What became of a cohort.

    Attributes:
        store: where the features are.
        todo: how many scans were not complete before.
        done: volumes that were extracted now.
        complete: volumes that were complete before, or made by another job meanwhile.
        failed: why scans were not extracted, by id.
        claimed_by_others: ids of scans that another job still works on.
        seconds: wall time.
        bottleneck: which stage the others waited for, and what would help.
    """

    store: Path | Remote
    todo: int
    done: int
    complete: int
    failed: dict[str, str]
    claimed_by_others: list[str]
    seconds: float
    bottleneck: str


def extract_cohort(
    inputs: str | Path | Sequence[str | Path],
    store: str | Path | Remote,
    config: ExtractConfig | str | Path | None = None,
    *,
    progress: CohortProgress | None = None,
    notify: Callable[[str], object] | None = None,
    confirm: Callable[[Forecast], object] | None = None,
    **overrides: Any,
) -> Extracted:
    """Lift scans into a store of features; what is complete already is skipped.

    Args:
        inputs: scans, folders that are searched for scans, manifests, or their URLs.
        store: the store to write, or its URL.
        config: all options, or a TOML file of them, or a preset such as ``ct-soft``; None takes the defaults.
        progress: is told how far it is; an exception that it raises stops the run, and the same call goes on.
        notify: is told what one wants to know before and while it runs, a line each.
        confirm: is told how large the store will be, before anything is written; to stop, it raises.
        **overrides: options by name, such as ``model="efficientnet-lite0", size=448``.

    Raises:
        InputError: no such input, or no scan.
        OptionError: an option that there is not, or that makes no sense.
        StoreError: something else is at `store`, or a store of another recipe.
        OutputError: the store cannot be written.
    """
    config = config if isinstance(config, ExtractConfig) else ExtractConfig.of_file(config) if config else None
    config = (config or ExtractConfig()).with_values(overrides)
    notify = notify or (lambda line: None)
    found = find_cohort(inputs, config, notify)
    return extract_scans(found, store, config, progress=progress, notify=notify, confirm=confirm)


def find_cohort(
    inputs: str | Path | Sequence[str | Path], config: ExtractConfig, notify: Callable[[str], object]
) -> DiscoveredScans:
    """The scans that `extract_cohort` would lift; raises what that does, before any is opened."""
    from featlift.volumes import Preparation, Selection, find_scans

    config.check()
    Preparation.of(config.preparation)  # what makes no sense is said before anything is looked for
    given = [inputs] if isinstance(inputs, (str, Path)) else inputs
    found = find_scans(given, Selection.of(config.selection), config.selection.limit, refused=[])
    _tell_of(found, notify)
    return found


def config_of(store: str | Path | Remote) -> ExtractConfig:
    """The configuration that makes what a store holds, as far as its recipe tells; see `ExtractConfig.of_recipe`.

    Raises:
        InputError: no such store.
        StoreError: something else is there.
    """
    from featlift.backbones.catalogue import list_models
    from featlift.store.contents import check_store

    recipe = check_store(store)["recipe"]
    short = {entry.timm_name: entry.name for entry in list_models()}
    return ExtractConfig.of_recipe({**recipe, "model": short.get(recipe["model"], recipe["model"])})


def _tell_of(found: DiscoveredScans, notify: Callable[[str], object]) -> None:
    """Say what is no scan, and what might be a mistake."""
    for each in found.skipped[:_LISTED]:
        notify(f"skipped  {each.name}: {each.reason}")
    if len(found.skipped) > _LISTED:
        notify(f"skipped  {len(found.skipped) - _LISTED} more, all in the run record")
    for notice in found.notices:
        notify(f"featlift: {notice}")


def extract_scans(
    found: DiscoveredScans,
    store: str | Path | Remote,
    config: ExtractConfig,
    *,
    progress: CohortProgress | None = None,
    notify: Callable[[str], object] | None = None,
    confirm: Callable[[Forecast], object] | None = None,
) -> Extracted:
    """Lift scans that are found into a store, as `extract_cohort` does those of its inputs; raises what that does."""
    # torch's threads would wait for each other by spinning, on cores that reading and writing need
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from featlift.extraction import Job, Shard
    from featlift.extraction.beginning import as_begun
    from featlift.extraction.engines import worker_pool_of
    from featlift.extraction.fitting import needs_fitting, with_fitted_basis
    from featlift.remote import parse_location
    from featlift.store.backends import backend_of
    from featlift.store.erasing import erase_other

    progress = progress or (lambda outcome, done, total: None)
    notify = notify or (lambda line: None)
    if (config.network.weights or "").startswith("random:"):
        notify("featlift: random weights: these features mean nothing")
    backend_of(store).check_writable()
    shard = config.running.shard
    part = Shard.parse(shard) if shard else Shard.of_slurm(os.environ)
    job, pool = worker_pool_of(Job(parse_location(store), found, config, part))
    extraction = as_begun(job.output, job.extraction())
    if confirm is not None:
        _forecast(job, extraction, confirm)
    if config.running.overwrite and (erased := erase_other(job.output, extraction.recipe)):
        notify(
            f"{job.output}: erased {number_of(erased.volumes, 'volume')} ({human_bytes(erased.bytes)}), "
            f"another recipe: {'; '.join(erased.differences)}"
        )
    if needs_fitting(job.output, extraction):
        notify("featlift: fitting the basis on a sample of the scans")
    extraction = with_fitted_basis(job.output, extraction, found.scans)
    with job.run(extraction) as run:
        _tell_of_run(run, job, notify)
        total = len(run.todo) + len(run.refused)
        progress(None, 0, total)
        for number, outcome in enumerate(run.extract(pool), start=1):
            progress(outcome, number, total)
    failed = {outcome.id: outcome.reason for outcome in run.outcomes if outcome.status == "failed"}
    complete, others = run.count("skipped"), run.claimed_by_others
    return Extracted(run.output, total, run.count("done"), complete, failed, others, run.seconds, run.bottleneck)


def _forecast(job: Job, extraction: Extraction, confirm: Callable[[Forecast], object]) -> None:
    """Say how much is about to be written, unless the store is of another recipe and the run will refuse it."""
    from featlift.store.contents import check_store, complete_cases, is_empty
    from featlift.store.forecast import FeatureSizes, forecast
    from featlift.store.layout import differing_fields

    output = job.output
    differs = not is_empty(output) and bool(differing_fields(check_store(output)["recipe"], extraction.recipe))
    if differs and not job.config.running.overwrite:
        return
    held = set() if differs else set(complete_cases(output))
    left = [scan for scan in job.found.scans if scan.id not in held]
    sizes = FeatureSizes.of(extraction.encoder)
    confirm(forecast(left, extraction.preparation, sizes, extraction.keeping, extraction.reading))


def _tell_of_run(run: Run, job: Job, notify: Callable[[str], object]) -> None:
    """Say what of the cohort this run takes, and what it makes again."""
    if job.shard and job.shard.of > 1:
        mine, everything = len(run.scans), len(run.found.scans)
        by_slurm = "" if job.config.running.shard else " (by the Slurm array, --shard 1/1 takes all)"
        notify(
            f"featlift: shard {job.shard.number} of {job.shard.of}: {mine:,} of {everything:,} scans, "
            f"{everything - mine:,} left to the other shards{by_slurm}"
        )
    if run.replaced:
        notify(
            f"featlift: {len(run.replaced)} in the store are made again, their source is another or they are "
            f"damaged: {', '.join(run.replaced[:5])}{' ...' if len(run.replaced) > 5 else ''}"
        )

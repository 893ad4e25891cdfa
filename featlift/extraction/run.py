"""One run: scans in, volumes of a store out, with a record of it."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from featlift.errors import FeatliftError
from featlift.extraction.assembling import selection_of
from featlift.extraction.beginning import as_begun
from featlift.extraction.bottleneck import bottleneck
from featlift.extraction.extraction import Extraction
from featlift.extraction.outcome import Outcome
from featlift.extraction.pipeline import Pipeline
from featlift.extraction.record import name_of, run_record
from featlift.extraction.shards import Shard
from featlift.remote import Remote, parse_location
from featlift.store import CaseData, Claims, StoreWriter, index_is_current, rebuild_index
from featlift.store.backend import Where
from featlift.store.case import read_volume
from featlift.store.contents import complete_cases, damaged_cases, is_empty
from featlift.store.index import check_label_names
from featlift.store.verification import damage_of
from featlift.volumes import DiscoveredScans, Scan
from featlift.volumes.opening import identity, signature

if TYPE_CHECKING:
    from featlift.extraction.worker_pool import WorkerPool


_ASKED_AT_ONCE = 16  # scans


class Run:
    """A run over a cohort. On leaving its context the record is written and the index is brought up to date.

    Args:
        output: the store, made if it is missing.
        extraction: network and preparation, which make the recipe; a store that exists is gone on with as it began.
        found: the scans.
        workers: processes that read ahead, see `Readers`; 0 reads in this one.
        prefetch: bytes of prepared volumes that may wait for lifting.
        shard: the part of the scans to take; None takes all.
        is_part: of another run, which writes the record and the index.

    Attributes:
        scans: those of the shard.
        todo: scans that the store does not hold, complete and from an unchanged source.
        refused: scans whose ids cannot be any; of several shards the first one tells of them.
        replaced: ids of `todo` under which it holds a volume: of another source, or damaged.
        claimed_by_others: ids of `todo` that were in the hands of another job to the end.

    Raises:
        StoreError: something else is there, or a store of another recipe.
        OutputError: the place cannot be written.
    """

    def __init__(
        self,
        output: Where,
        extraction: Extraction,
        found: DiscoveredScans,
        workers: int = 0,
        prefetch: int | None = None,
        shard: Shard | None = None,
        is_part: bool = False,
    ) -> None:
        self.output = parse_location(output)
        self.extraction = extraction = as_begun(output, extraction)
        self.found = found
        check_label_names({name for scan in found.scans for name in scan.labels}, "the manifest")
        self._is_part = is_part
        self._is_new = is_empty(output)
        self._writer = StoreWriter(output, extraction.recipe)
        self._claims = Claims(output)
        self._damaged = set(damaged_cases(output))
        held = set(complete_cases(output))
        self.scans = shard.take(found.scans) if shard else found.scans
        self.refused = [] if is_part or (shard and shard.number > 1) else found.refused
        self.todo = self._pending()
        self.replaced = [scan.id for scan in self.todo if scan.id in held]
        self.claimed_by_others: list[str] = []
        self._scans = {scan.id: scan for scan in self.todo}
        self._pipeline = Pipeline(extraction, self._publish, min(workers, len(self.todo)), prefetch)
        self._working: Generator[Outcome, None, None] | None = None
        self._devices: list[str] = []
        self._started, self._clock = datetime.now(UTC), perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return perf_counter() - self._clock

    @property
    def outcomes(self) -> list[Outcome]:
        """Of the scans that are through."""
        return self._pipeline.outcomes

    @property
    def waited(self) -> dict[str, float]:
        """Seconds that lifting waited for ``read`` and ``write``."""
        return self._pipeline.waited

    @property
    def device(self) -> str:
        """Where it lifts, for the record."""
        return ", ".join(self._devices) or name_of(self.extraction.encoder.device)

    @property
    def bottleneck(self) -> str:
        """Which stage the others waited for, and what would help, in a sentence."""
        return bottleneck(self._pipeline, self.extraction.encoder.device)

    def count(self, status: str) -> int:
        """How many scans are ``done``, ``failed`` or ``skipped``: complete before, or made by another process."""
        complete = len(self.scans) - len(self.todo) if status == "skipped" else 0
        return complete + sum(outcome.status == status for outcome in self.outcomes)

    def extract(self, pool: WorkerPool | None = None) -> Generator[Outcome, None, None]:
        """Extract the scans. One that fails is reported, as those that are refused, and the others go on.

        One that another process has finished meanwhile is left as it is.

        Args:
            pool: processes that do it; None lifts in this one.

        Raises:
            OutputError: the store cannot be written; going on would only repeat it.
        """
        self._working = self._after_refused(self._extract() if pool is None else self._gather(pool))
        return self._working

    def _after_refused(self, outcomes: Generator[Outcome, None, None]) -> Generator[Outcome, None, None]:
        with closing(outcomes):
            for each in self.refused:
                name = each.name if each.name.isprintable() else repr(each.name)[1:-1]
                self.outcomes.append(Outcome(name, "failed", each.reason))
                yield self.outcomes[-1]
            yield from outcomes

    def _gather(self, pool: WorkerPool) -> Generator[Outcome, None, None]:
        told: set[str] = set()
        with pool, closing(pool.run()) as outcomes:
            for outcome in outcomes:
                if outcome.id not in told:
                    told.add(outcome.id)
                    self.outcomes.append(outcome)
                    yield outcome
        self._pipeline.waited = pool.waited
        self._devices = sorted(pool.devices)
        for scan in self.todo:
            if scan.id in told:
                continue
            if self._is_done(scan):
                self.outcomes.append(Outcome(scan.id, "skipped"))
            elif pool.ended:
                self.outcomes.append(Outcome(scan.id, "failed", pool.ended[-1]))
            else:
                self.claimed_by_others.append(scan.id)
                continue
            yield self.outcomes[-1]

    def _extract(self) -> Generator[Outcome, None, None]:
        yield from self._through(self._free())
        if self.claimed_by_others:
            yield from self._through(self._reclaim())

    def _through(self, scans: Iterator[Scan]) -> Generator[Outcome, None, None]:
        with closing(self._pipeline.run(scans)) as outcomes:
            for outcome in outcomes:
                if outcome.status != "failed":  # others need not fail at it too while this run lasts
                    self._claims.release(outcome.id)
                yield outcome

    def _free(self) -> Iterator[Scan]:
        """Scans that no other job works on or has finished meanwhile, claimed as they are asked for."""
        for scan in self.todo:
            if self._claims.take(scan.id):
                yield from self._unless_done(scan)
            else:
                self.claimed_by_others.append(scan.id)

    def _reclaim(self) -> Iterator[Scan]:
        """Those of the others that turn out to be finished, or to belong to a job that is gone."""
        for case_id in self._claims.take_left(list(self.claimed_by_others)):
            self.claimed_by_others.remove(case_id)
            yield from self._unless_done(self._scans[case_id])

    def _unless_done(self, scan: Scan) -> Iterator[Scan]:
        self._damaged &= damaged_cases(self.output).keys()  # another job may have repaired some
        if self._is_done(scan):
            self.outcomes.append(Outcome(scan.id, "skipped"))
            self._claims.release(scan.id)
        else:
            yield scan

    def _pending(self) -> list[Scan]:
        """Scans that are not done. An object store is asked about several at once: each answer takes its time."""
        if not isinstance(self.output, Remote):
            return [scan for scan in self.scans if not self._is_done(scan)]
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            done = pool.map(self._is_done, self.scans)
            return [scan for scan, is_done in zip(self.scans, done, strict=True) if not is_done]

    def _is_done(self, scan: Scan) -> bool:
        return scan.id not in self._damaged and is_current(self.output, scan)

    def _publish(self, case: CaseData) -> int | None:
        """Write a volume, unless another process has written it since its scan was looked for; its bytes."""
        return None if self._is_done(self._scans[case.id]) else self._writer.publish(case)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._working is not None:
            self._working.close()  # interrupted: the volume that is being written still is
        self._claims.close()
        if self._is_part:
            return
        if self._is_new and not self.count("done"):
            self._writer.remove_if_empty()
            return
        if self.outcomes:
            name = f"{self._started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
            self._writer.record_run(name, self._record())
        labels = {scan.id: scan.labels for scan in self.found.scans if scan.labels}
        if self.outcomes or labels or not index_is_current(self.output):
            rebuild_index(self.output, labels or None)

    def _record(self) -> dict[str, Any]:
        return run_record(
            recipe=self._writer.recipe,
            weights=dict(self.extraction.encoder.weights),
            device=self.device,
            started=self._started.isoformat(),
            seconds=self.seconds,
            volumes={status: self.count(status) for status in ("done", "skipped", "failed")},
            outcomes=self.outcomes,
            waited=self._pipeline.waited,
            no_scans=self.found.skipped,
        )


def is_current(store: Where, scan: Scan) -> bool:
    """Whether the store holds this scan: complete, every key in its size, made from the files as they are now."""
    if any(damage_of(store, scan.id, thoroughly=False)):
        return False
    attributes = read_volume(store, scan.id).attributes
    if attributes.get("selection") != selection_of(scan):
        return False
    source = attributes["source"]
    try:
        now = signature(scan.sources)
        in_order = len({each.path for each in scan.sources}) == 1  # of several files, two could have changed places
        known = all(value is not None and value == source.get(name) for name, value in now.items())
        if in_order and known:
            return True
        return bool(now["bytes"] == source["bytes"] and identity(scan.sources)["sha256"] == source["sha256"])
    except (OSError, FeatliftError):
        return False  # reading it will say what is wrong

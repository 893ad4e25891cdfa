"""One run: scans in, volumes of a store out, one after the other, with a record of it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Any, Literal

import torch

from featlift.errors import FeatliftError, OutputError
from featlift.extraction.assembling import selection_of
from featlift.extraction.extraction import Extraction, timed
from featlift.extraction.recipe import make_recipe
from featlift.extraction.record import run_record
from featlift.remote import located
from featlift.store import StoreWriter, index_is_current, rebuild_index
from featlift.store.index import check_label_names
from featlift.store.place import Where, place_of
from featlift.store.reading import complete_cases, damaged_cases, is_vacant
from featlift.store.verification import damage_of
from featlift.volumes import Found, Scan
from featlift.volumes.reading import identity, signature


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes:
        id: case id.
        status: ``done``, ``failed`` with a reason, or ``skipped`` because another process was faster.
        reason: why it failed.
        seconds: wall time by stage: read, prepare, lift, write.
    """

    id: str
    status: Literal["done", "failed", "skipped"]
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


class Run:
    """A run over a cohort. On leaving its context the record is written and the index is brought up to date.

    Args:
        output: the store, made if it is missing.
        extraction: network and preparation, which make the recipe.
        found: the scans.

    Attributes:
        todo: scans that the store does not hold, complete and from an unchanged source.
        replaced: ids of `todo` under which it holds a volume: of another source, or damaged.
        outcomes: so far.

    Raises:
        StoreError: something else is there, or a store of another recipe.
        OutputError: the place cannot be written.
    """

    def __init__(self, output: Where, extraction: Extraction, found: Found) -> None:
        self.output = located(output)
        self.extraction = extraction
        self.found = found
        self.outcomes: list[Outcome] = []
        check_label_names({name for scan in found.scans for name in scan.labels}, "the manifest")
        self._is_new = is_vacant(output)
        self._writer = StoreWriter(output, make_recipe(extraction.lifted, extraction.preparation))
        damaged = damaged_cases(output)
        held = set(complete_cases(output))
        self.todo = [scan for scan in found.scans if scan.id in damaged or not is_current(output, scan)]
        self.replaced = [scan.id for scan in self.todo if scan.id in held]
        self._started, self._clock = datetime.now(UTC), perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return perf_counter() - self._clock

    def count(self, status: str) -> int:
        """How many scans are ``done``, ``failed`` or ``skipped``: complete before, or made by another process."""
        complete = len(self.found.scans) - len(self.todo) if status == "skipped" else 0
        return complete + sum(outcome.status == status for outcome in self.outcomes)

    def extract(self) -> Iterator[Outcome]:
        """Extract each scan in turn. A scan that fails is reported and the next one follows.

        One that another process has finished meanwhile is left as it is.

        Raises:
            OutputError: the store cannot be written; going on would only repeat it.
        """
        damaged = damaged_cases(self.output)
        for scan in self.todo:
            is_done = scan.id not in damaged and is_current(self.output, scan)
            outcome = Outcome(scan.id, "skipped") if is_done else self._extract(scan)
            self.outcomes.append(outcome)
            yield outcome

    def _extract(self, scan: Scan) -> Outcome:
        seconds: dict[str, float] = {}
        try:
            case = self.extraction.of_scan(scan, seconds)
            with timed(seconds, "write"):
                self._writer.publish(case)
        except OutputError:
            raise
        except FeatliftError as error:
            return Outcome(scan.id, "failed", str(error), seconds)
        except (MemoryError, torch.OutOfMemoryError) as error:
            return Outcome(scan.id, "failed", f"out of memory: {str(error).strip() or 'host'}", seconds)
        except (OSError, RuntimeError) as error:
            if re.search("not enough memory|can't allocate memory", str(error)):  # torch's own words on a CPU
                return Outcome(scan.id, "failed", "out of memory on the host: try --size or --spacing", seconds)
            return Outcome(scan.id, "failed", f"{type(error).__name__}: {error}", seconds)
        return Outcome(scan.id, "done", seconds=seconds)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
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
        backbone = self.extraction.lifted.backbone
        return run_record(
            recipe_sha256=self._writer.recipe_sha256,
            weights=backbone.weights,
            device=backbone.device,
            started=self._started.isoformat(),
            seconds=self.seconds,
            volumes={status: self.count(status) for status in ("done", "skipped", "failed")},
            outcomes=self.outcomes,
            no_scans=self.found.skipped,
        )


def is_current(store: Where, scan: Scan) -> bool:
    """Whether the store holds this scan: complete, every key in its size, made from the files as they are now."""
    if any(damage_of(store, scan.id, thoroughly=False)):
        return False
    attributes = place_of(store).attributes(scan.id)
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

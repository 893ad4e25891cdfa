"""One run: scans in, volumes of a store out, one after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from featlift.errors import FeatliftError, OutputError
from featlift.extraction.assembling import assemble
from featlift.lifting import Features, LiftedBackbone
from featlift.store.layout import METADATA, VOLUMES, attributes_of
from featlift.store.reading import complete_cases, damaged_cases
from featlift.store.verification import damage_of
from featlift.store.writing import StoreWriter
from featlift.volumes import Preparation, Scan, prepare, read
from featlift.volumes.grid import pad, padding_to
from featlift.volumes.reading import identity


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


class Extraction:
    """Takes scans one by one through reading, preparation and lifting into a store."""

    def __init__(self, lifted: LiftedBackbone, preparation: Preparation, writer: StoreWriter) -> None:
        self.lifted = lifted
        self.preparation = preparation
        self.writer = writer

    def todo(self, scans: list[Scan]) -> list[Scan]:
        """Those of `scans` that the store does not hold, complete and from an unchanged source."""
        damaged = damaged_cases(self.writer.path)
        return [scan for scan in scans if scan.id in damaged or not is_current(self.writer.path, scan)]

    def replaced(self, todo: list[Scan]) -> list[str]:
        """Ids of `todo` under which the store already holds a volume: of another source, or damaged."""
        held = set(complete_cases(self.writer.path))
        return [scan.id for scan in todo if scan.id in held]

    def run(self, scans: list[Scan]) -> Iterator[Outcome]:
        """Extract each scan in turn. A scan that fails is reported and the next one follows.

        One that another process has finished meanwhile is left as it is.

        Raises:
            OutputError: the store cannot be written; going on would only repeat it.
        """
        damaged = damaged_cases(self.writer.path)
        for scan in scans:
            if scan.id not in damaged and is_current(self.writer.path, scan):
                yield Outcome(scan.id, "skipped")
            else:
                yield self._extract(scan)

    def _extract(self, scan: Scan) -> Outcome:
        seconds: dict[str, float] = {}
        try:
            with _timed(seconds, "read"):
                volume = read(scan.path)
            with _timed(seconds, "prepare"):
                prepared = prepare(volume, self.preparation)
                padding = padding_to(prepared.shape, self.lifted.stride)
                padded = torch.from_numpy(pad(prepared.scan, padding))
            with _timed(seconds, "lift"):
                features = self._lift(padded)
                case = assemble(scan, volume, prepared, self.lifted, features, padding)
            with _timed(seconds, "write"):
                self.writer.publish(case)
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

    def _lift(self, padded: torch.Tensor) -> Features:
        with torch.inference_mode():
            features: Features = self.lifted(padded[None].to(self.lifted.backbone.device))
        return features


def is_current(store: Path, scan: Scan) -> bool:
    """Whether the store holds this scan: complete, every key in its size, made from the file as it is now."""
    folder = store / VOLUMES / scan.id
    if not (folder / METADATA).is_file() or any(damage_of(store, scan.id, thoroughly=False)):
        return False
    source = attributes_of(folder)["source"]
    try:
        status = scan.path.stat()
        if (status.st_size, status.st_mtime_ns) == (source["bytes"], source["mtime_ns"]):
            return True
        return bool(status.st_size == source["bytes"] and identity(scan.path)["sha256"] == source["sha256"])
    except OSError:
        return False  # reading it will say what is wrong


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - start

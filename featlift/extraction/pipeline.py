"""Reading, lifting and writing at the same time: features are made while later scans are read and earlier ones written.

Reading processes → prepared volumes (at most `prefetch` bytes) → lifting → threads that write → store.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

import torch

from featlift.errors import FeatliftError, LiftingMemoryError, OutputError
from featlift.extraction.extraction import Extraction
from featlift.extraction.outcome import Outcome, failure
from featlift.extraction.readers import Readers
from featlift.processes import cores
from featlift.store import CaseData
from featlift.timing import timed
from featlift.volumes import Scan
from featlift.volumes.loading import Loaded

_MOST_WRITERS = 6  # threads beside an accelerator, which lifts a CT in a fraction of the time that writing it takes
_TOKENS_TOGETHER = 2**16  # on an accelerator: what keeps one busy; a CPU is kept busy by any volume

Publish = Callable[[CaseData], int | None]


def default_writers(device: torch.device) -> int:
    """One beside a CPU that lifts with all its cores; on an accelerator up to six, each holding a volume."""
    return 1 if device.type == "cpu" else max(2, min(_MOST_WRITERS, cores() // 2))


class Pipeline:
    """Takes scans through reading, lifting and writing.

    Args:
        extraction: network and preparation.
        publish: writes a volume; its bytes on disk, or None if another process had. Called by threads.
        workers: reading processes, see `Readers`.
        prefetch: bytes of prepared volumes that may wait for lifting.
        together: how many volumes of one shape to lift in one pass; None goes by the device.
        writers: threads that write, a volume each; None goes by the device.

    Attributes:
        outcomes: of the scans that are through, also after an interrupt.
        waited: seconds that lifting waited for ``read`` and for ``write``.
    """

    def __init__(
        self,
        extraction: Extraction,
        publish: Publish,
        workers: int = 0,
        prefetch: int | None = None,
        together: int | None = None,
        writers: int | None = None,
    ) -> None:
        self.extraction = extraction
        self.publish = publish
        self.readers = Readers(extraction.preparation, extraction.reading, workers, prefetch)
        self.together = together
        self.writers = writers or default_writers(extraction.encoder.device)
        self.outcomes: list[Outcome] = []
        self.waited = {"read": 0.0, "write": 0.0}
        self._writing: deque[Future[Outcome]] = deque()

    def run(self, scans: Iterable[Scan]) -> Generator[Outcome, None, None]:
        """Extract scans; their outcomes come as they are through.

        Raises:
            OutputError: the store cannot be written; going on would only repeat it.
        """
        told = len(self.outcomes)
        try:
            with self.readers, ThreadPoolExecutor(self.writers, "writer") as writer:
                for group in self._groups(self._read(scans)):
                    for case, seconds in self._lift(group):
                        self._await_writer(leave=self.writers)  # no more are held
                        self._writing.append(writer.submit(self._write, case, seconds))
                    yield from self.outcomes[told:]
                    told = len(self.outcomes)
                self._await_writer(leave=0)
                yield from self.outcomes[told:]
        finally:  # interrupted: what was being written is
            self.outcomes += [future.result() for future in self._writing if _is_through(future)]
            self._writing.clear()

    def _read(self, scans: Iterable[Scan]) -> Iterator[Loaded | None]:
        """Each scan that could be read; None for one that could not, which becomes an outcome."""
        reads = self.readers.read(scans)
        while True:
            with timed(self.waited, "read"):
                scan, loaded = next(reads, (None, None))
            if scan is None:
                return
            if isinstance(loaded, Exception):
                self.outcomes.append(failure(scan.id, loaded))
                loaded = None
            yield loaded

    def _groups(self, volumes: Iterator[Loaded | None]) -> Iterator[list[Loaded]]:
        """Volumes that follow each other and are of one shape, as many as are lifted together."""
        group: list[Loaded] = []
        for loaded in volumes:
            if loaded is None:
                yield []  # lets its outcome through
                continue
            if group and _shape(loaded) != _shape(group[0]):
                yield group
                group = []
            group.append(loaded)
            if len(group) >= self._most_together(loaded):
                yield group
                group = []
        if group:
            yield group

    def _most_together(self, loaded: Loaded) -> int:
        if self.together is not None:
            return self.together
        encoder = self.extraction.encoder
        if encoder.device.type == "cpu":
            return 1
        tokens = math.prod(loaded.prepared.shape) // math.prod(encoder.feature_layers[-1].stride)
        return max(1, _TOKENS_TOGETHER // max(1, tokens))

    def _lift(self, group: list[Loaded]) -> Iterator[tuple[CaseData, dict[str, float]]]:
        """The cases of a group; of volumes that do not fit the device together, one at a time."""
        if not group:
            return
        start = perf_counter()
        cases, error = self._lifted(group)
        taken = (perf_counter() - start) / len(group)
        if isinstance(error, LiftingMemoryError) and len(group) > 1:
            for loaded in group:
                yield from self._lift([loaded])
        elif error is not None:
            self.outcomes += [failure(each.scan.id, error, {**each.seconds, "lift": taken}) for each in group]
        for loaded, case in zip(group, cases, strict=False):
            yield case, {**loaded.seconds, "lift": taken}

    def _lifted(self, group: list[Loaded]) -> tuple[list[CaseData], Exception | None]:
        """The cases of a group, or why there are none.

        The error leaves without its traceback, whose frames would hold the tensors of the pass that ran out of memory.
        """
        try:
            return self.extraction.lift(group), None
        except (FeatliftError, MemoryError, OSError, RuntimeError) as error:
            error.__traceback__ = error.__context__ = error.__cause__ = None
            return [], error

    def _write(self, case: CaseData, seconds: dict[str, float]) -> Outcome:
        try:
            with timed(seconds, "write"):
                written = self.publish(case)
        except OutputError:
            raise
        except (FeatliftError, MemoryError, OSError, RuntimeError) as error:
            return failure(case.id, error, seconds)
        if written is None:
            return Outcome(case.id, "skipped", seconds=seconds)
        read = case.attributes["source"].get("bytes", 0)
        return Outcome(case.id, "done", seconds=seconds, bytes={"read": read, "written": written})

    def _await_writer(self, leave: int) -> None:
        while len(self._writing) > leave:
            with timed(self.waited, "write"):
                outcome = self._writing[0].result()
            self._writing.popleft()
            self.outcomes.append(outcome)


def _shape(loaded: Loaded) -> tuple[int, ...]:
    return loaded.prepared.scan.shape


def _is_through(future: Future[Outcome]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None

"""Several processes that lift, each on a device of its own, into one store.

Each is a run over all scans. The store's claims share the scans out as they go, so a fast device takes more, and
what a process that ended had claimed falls to the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from types import TracebackType

from featlift.extraction.outcome import Outcome

_MOST_STARTS = 3  # of each; a scan that ends every process must not keep the cohort going for ever


@dataclass(frozen=True)
class Finished:
    """The last word of a lifter that found nothing more to do.

    Attributes:
        waited: seconds that its lifting waited for reading and writing.
        device: where it lifted.
    """

    waited: dict[str, float]
    device: str


@dataclass(frozen=True)
class Ended:
    """A lifter that is gone before it finished, and why."""

    reason: str


Event = Outcome | Finished | Ended


class WorkerPool(ABC):
    """WorkerPool of one cohort. As a context it ends them all.

    Args:
        size: how many workers.

    Attributes:
        waited: seconds that lifting waited, all lifters together.
        devices: of the lifters that finished.
        ended: why lifters were gone before they finished.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.waited: dict[str, float] = {"read": 0.0, "write": 0.0}
        self.devices: list[str] = []
        self.ended: list[str] = []

    def run(self) -> Generator[Outcome, None, None]:
        """Start all, and tell of each scan. One that ends is started again, up to three times.

        Raises:
            FeatliftError: what makes going on useless, such as a store that cannot be written.
        """
        starts = [0] * self.size
        working = set(range(self.size))
        for number in sorted(working):
            starts[number] += 1
            self.start(number)
        while working:
            number, event = self.next_event()
            if isinstance(event, Outcome):
                yield event
            elif isinstance(event, Finished):
                working.discard(number)
                self.devices.append(event.device)
                for stage, seconds in event.waited.items():
                    self.waited[stage] += seconds
            else:
                self.ended.append(event.reason)
                if starts[number] < _MOST_STARTS:
                    starts[number] += 1
                    self.start(number)
                else:
                    working.discard(number)

    @abstractmethod
    def start(self, number: int) -> None:
        """Start a lifter, for the first time or again."""

    @abstractmethod
    def next_event(self) -> tuple[int, Event]:
        """Wait for the next thing that any lifter has to tell; raises the error that one of them stopped with."""

    @abstractmethod
    def stop(self) -> None:
        """End all of them."""

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

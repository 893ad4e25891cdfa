"""`--devices cuda:0,cuda:1`: a lifting process for each device of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType

from featlift.errors import FeatliftError
from featlift.extraction.job import Job
from featlift.extraction.worker import lift_all
from featlift.extraction.worker_pool import Ended, Event, Finished, WorkerPool
from featlift.processes import end_with_parent, ending

_PATIENCE = 30.0  # seconds for the volume that is being written


class DevicePool(WorkerPool):
    """A process for each of several jobs that differ in their device."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__(len(jobs))
        self.jobs = list(jobs)
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[int, multiprocessing.process.BaseProcess] = {}
        self._pipes: dict[Connection, int] = {}

    def start(self, number: int) -> None:
        """See `WorkerPool.start`."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(theirs, self.jobs[number]), name=f"lifter {number}")
        process.start()
        theirs.close()  # the last copy is the process's own: when that is gone, ours reads an end
        self._processes[number] = process
        self._pipes[ours] = number

    def next_event(self) -> tuple[int, Event]:
        """See `WorkerPool.next_event`."""
        pipe = wait(list(self._pipes))[0]
        assert isinstance(pipe, Connection)
        number = self._pipes[pipe]
        try:
            event = pipe.recv()
        except EOFError:
            del self._pipes[pipe]
            process = self._processes[number]
            process.join()
            device = self.jobs[number].config.network.device
            return number, Ended(f"the process that lifted on {device} ended with {ending(process.exitcode)}")
        if isinstance(event, FeatliftError):
            raise event
        if isinstance(event, Finished):
            self._processes.pop(number)  # it ends by itself
            del self._pipes[pipe]
        return number, event

    def stop(self) -> None:
        """As Ctrl-C does: each finishes the volume that it is writing."""
        alive = [process for process in self._processes.values() if process.is_alive()]
        for process in alive:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        for process in alive:
            process.join(_PATIENCE)
            process.kill()


def _work(pipe: Connection, job: Job) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, _interrupt_once)  # a terminal sends one, and the parent another
    try:
        for event in lift_all(job):
            pipe.send(event)
    except FeatliftError as error:
        pipe.send(error)
    except KeyboardInterrupt:
        pass


def _interrupt_once(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt

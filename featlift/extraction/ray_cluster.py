"""`--engine ray`: a lifting actor for each GPU of a Ray cluster, or for each node of one without GPUs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import torch

from featlift.errors import FeatliftError, OptionError
from featlift.extraction.job import Job
from featlift.extraction.network import encoder_of
from featlift.extraction.outcome import Outcome
from featlift.extraction.worker import lift_all
from featlift.extraction.worker_pool import Ended, Event, Finished, WorkerPool
from featlift.processes import cores


def connect() -> Any:
    """Ray, connected to the cluster of ``RAY_ADDRESS``, or to one of this machine alone.

    Raises:
        OptionError: Ray is not installed, or the cluster does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise OptionError("--engine ray needs Ray: pip install 'featlift[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise OptionError(f"no Ray cluster at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}: {error}") from error
    return ray


class RayPool(WorkerPool):
    """An actor for each GPU of the cluster, on whichever node Ray finds it; nodes share the disk of scans and store.

    Args:
        job: of all.
        actors: how many; None takes as many as the cluster has GPUs, or nodes if it has none.
    """

    def __init__(self, job: Job, actors: int | None = None) -> None:
        self._ray = connect()
        resources = self._ray.cluster_resources()
        gpus, nodes = int(resources.get("GPU", 0)), sum(node["Alive"] for node in self._ray.nodes())
        count = actors or gpus or nodes
        cores = int(resources.get("CPU", 1))
        self._actor = self._ray.remote(
            num_gpus=1 if gpus else 0, num_cpus=max(1, cores // count), scheduling_strategy="SPREAD", max_restarts=0
        )(_Actor)
        super().__init__(count)
        self.job = job.on("cuda" if gpus else "cpu")
        self._working: dict[Any, int] = {}  # streams of events
        self._actors: dict[int, Any] = {}

    def precision(self) -> str:
        """What precision ``auto`` is where the actors are."""
        actor = self._actor.remote()
        precision: str = self._ray.get(actor.precision.remote(self.job))
        self._ray.kill(actor)
        return precision

    def start(self, number: int) -> None:
        """See `WorkerPool.start`."""
        self._actors[number] = self._actor.remote()
        stream = self._actors[number].lift_all.options(num_returns="streaming").remote(self.job)
        self._working[stream] = number

    def next_event(self) -> tuple[int, Event]:
        """See `WorkerPool.next_event`."""
        (stream,), _ = self._ray.wait(list(self._working), num_returns=1)
        number = self._working[stream]
        try:
            event: Event = self._ray.get(next(stream))
        except FeatliftError:
            raise
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FeatliftError):
                raise error.cause from None
            event = Ended(" ".join(str(error.cause).split()))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            event = Ended(f"a Ray actor died ({type(error).__name__})")
        if isinstance(event, (Finished, Ended)):
            del self._working[stream]
        return number, event

    def stop(self) -> None:
        """End the actors; what they had claimed is given back when the next run looks."""
        for actor in self._actors.values():
            self._ray.kill(actor)


class _Actor:
    def precision(self, job: Job) -> str:
        return str(encoder_of(job.config.network, job.config.lifting).recipe()["precision"])

    def lift_all(self, job: Job) -> Iterator[Outcome | Finished]:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or cores()))
        yield from lift_all(job)

"""Where a cohort is lifted: in this process, in one for each of several devices, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence

from featlift.errors import OptionError
from featlift.extraction.job import Job
from featlift.extraction.worker_pool import WorkerPool
from featlift.store.reading import is_empty


def worker_pool_of(job: Job, engine: str, devices: Sequence[str], actors: int | None) -> tuple[Job, WorkerPool | None]:
    """The pool of a job, and the job as this process needs it, which makes the recipe but does not lift.

    Args:
        job: what is to be done.
        engine: ``local`` or ``ray``.
        devices: of ``local``; with less than two, this process lifts.
        actors: of ``ray``; None takes one for each GPU of the cluster.

    Raises:
        OptionError: an unknown engine, options of the other one, or a cluster that does not answer.
    """
    if engine not in ("local", "ray"):
        raise OptionError(f"engine {engine!r}: choose local or ray")
    if engine == "ray" and devices:
        raise OptionError("--devices names devices of this machine; a Ray cluster has its own, --actors says how many")
    if engine == "local" and actors is not None:
        raise OptionError("--actors are those of a Ray cluster: give --engine ray, or --devices")
    if len(set(devices)) < len(devices):
        raise OptionError(f"--devices {','.join(devices)}: name each device once")
    if engine == "ray":
        from featlift.extraction.ray_cluster import RayPool

        cluster = RayPool(job, actors)
        precision = job.network.get("precision", "auto")
        if precision == "auto" and is_empty(job.output):  # otherwise the store's
            precision = cluster.precision()
        return job.with_network(device="cpu", precision=precision), cluster
    if len(devices) < 2:
        return job.with_network(device=devices[0]) if devices else job, None
    from featlift.extraction.devices import DevicePool

    first = job.with_network(device=devices[0])
    return first, DevicePool([job.on(device, of=len(devices)) for device in devices])

"""Where a cohort is lifted: in this process, in one for each of several devices, or on a Ray cluster."""

from __future__ import annotations

from featlift.errors import OptionError
from featlift.extraction.job import Job
from featlift.extraction.worker_pool import WorkerPool
from featlift.store.contents import is_empty


def worker_pool_of(job: Job) -> tuple[Job, WorkerPool | None]:
    """The pool of a job, and the job as this process needs it, which makes the recipe but does not lift.

    Args:
        job: what is to be done. With less than two devices, this process lifts.

    Raises:
        OptionError: options of another engine, or a cluster that does not answer.
    """
    running = job.config.running
    engine, devices, actors = running.engine, running.devices, running.actors
    if engine == "ray" and devices:
        raise OptionError("--devices names devices of this machine; a Ray cluster has its own, --actors says how many")
    if engine == "local" and actors is not None:
        raise OptionError("--actors are those of a Ray cluster: give --engine ray, or --devices")
    if len(set(devices)) < len(devices):
        raise OptionError(f"--devices {','.join(devices)}: name each device once")
    if engine == "ray":
        from featlift.extraction.ray_cluster import RayPool

        cluster = RayPool(job, actors)
        precision = job.config.network.precision
        if precision == "auto" and is_empty(job.output):  # otherwise the store's
            precision = cluster.precision()
        return job.with_values(device="cpu", precision=precision), cluster
    if len(devices) < 2:
        return job.with_values(device=devices[0]) if devices else job, None
    from featlift.extraction.devices import DevicePool

    return job.with_values(device=devices[0]), DevicePool([job.on(device, of=len(devices)) for device in devices])

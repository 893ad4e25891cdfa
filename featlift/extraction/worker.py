"""What a worker of a pool does with its job."""

from __future__ import annotations

from collections.abc import Iterator

from featlift.extraction.job import Job
from featlift.extraction.outcome import Outcome
from featlift.extraction.worker_pool import Finished


def lift_all(job: Job) -> Iterator[Outcome | Finished]:
    """What a lifter does: extract what no other has, and tell of each scan that it took."""
    with job.run(job.extraction(), is_part=True) as run:
        for outcome in run.extract():
            if outcome.status != "skipped":
                yield outcome
        yield Finished(run.waited, run.device)
